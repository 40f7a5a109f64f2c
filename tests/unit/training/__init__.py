"""Mirrors sagemaker_byoc.training."""
