"""Real processes against what the platform documents."""
