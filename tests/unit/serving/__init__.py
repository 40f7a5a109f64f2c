"""Mirrors sagemaker_byoc.serving."""
