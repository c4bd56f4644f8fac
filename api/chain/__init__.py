"""See docs/architecture.md: chain."""
