"""Batch transform: a model over every record of a set of objects, without an endpoint that stays."""
