"""A helper that is imported late."""

WHO = "second"
