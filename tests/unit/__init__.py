"""Seconds: no network, no Docker, plans and values only."""
