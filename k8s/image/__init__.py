"""How the container image is made: `make image`, docs/container.md."""
