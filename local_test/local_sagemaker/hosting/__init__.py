"""Endpoints: containers that serve, and what stands in front of them."""
