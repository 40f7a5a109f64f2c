"""A package among the dependencies."""
