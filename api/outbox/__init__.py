"""See docs/architecture.md: outbox."""
