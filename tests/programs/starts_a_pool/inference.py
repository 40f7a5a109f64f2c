"""Compute in processes that are forked, while the model loads and for each request."""

import multiprocessing


def square(number):
    return number * number


def squares(numbers):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(square, numbers)


def model_fn(model_dir):
    return squares([1, 2])


def predict_fn(data, model):
    return [model, squares(data)]
