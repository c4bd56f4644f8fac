"""See docs/architecture.md: schemas."""
