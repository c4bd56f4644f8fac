"""See docs/architecture.md: db."""
