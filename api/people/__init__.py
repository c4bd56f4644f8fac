"""See docs/architecture.md: people."""
