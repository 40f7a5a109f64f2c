"""Import what SageMaker's SDK, given `dependencies`, puts into the folder `lib`."""

from common_texts.capitals import loud


def model_fn(model_dir):
    return loud


def predict_fn(data, model):
    return [model(text) for text in data]
