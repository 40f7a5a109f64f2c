"""The name gunicorn is given."""

from predictor import app

__all__ = ["app"]
