"""The real sagemaker-training beside our `train`, on the same trees; every difference is known and has a reason."""
