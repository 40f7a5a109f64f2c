"""Counts with a metric of its own, as prometheus-client's documentation shows."""

import os

from prometheus_client import Counter

WORDS = Counter("words", "Words that were sent.", ["kind"])


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    WORDS.labels("any").inc(len(data))
    return os.getpid()
