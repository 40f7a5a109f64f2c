"""Servers of Python models side by side: `python -m benchmarks.serving`."""
