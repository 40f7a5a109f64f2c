"""What outlives a command: records in SQLite, buckets, and the processes that run things."""
