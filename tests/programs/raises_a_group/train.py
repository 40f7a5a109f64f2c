"""Raise several errors at once."""

raise ExceptionGroup("two shards failed", [ValueError("shard 1"), OSError("shard 2")])
