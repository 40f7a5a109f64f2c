"""Raise with a message of several thousand characters."""

raise ValueError("beginning " + "x" * 5000)
