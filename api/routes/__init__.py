"""See docs/architecture.md: routes."""
