"""A reference model of the escrow, and what puts it and the contract through the same random life."""
