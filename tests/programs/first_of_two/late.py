"""A helper that is imported late."""

WHO = "first"
