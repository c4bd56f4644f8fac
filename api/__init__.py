"""The shim: one HTTP request becomes one transaction. `python -m api serve` runs it."""
