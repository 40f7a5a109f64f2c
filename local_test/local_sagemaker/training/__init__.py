"""Training jobs: what one is, its hosts, and what is collected at the end."""
