"""`serve`: nginx and gunicorn over the user's inference functions."""
