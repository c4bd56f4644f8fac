"""See docs/architecture.md: booking."""
