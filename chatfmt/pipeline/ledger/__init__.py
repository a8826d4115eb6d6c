"""The ledger: which leaves of the source are used, kept or left behind, and which of those look like conversation."""
