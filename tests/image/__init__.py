"""The built image under a real Docker Engine."""
