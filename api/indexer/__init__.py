"""See docs/architecture.md: indexer."""
