"""Tests by cost and truth: `unit`, `contract`, `image`, `docs`."""
