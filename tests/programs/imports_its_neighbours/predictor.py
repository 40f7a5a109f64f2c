"""The user's own module."""

OWNER = "the user's predictor"
