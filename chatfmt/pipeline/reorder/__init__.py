"""The second pass over converted rows, for deduplication, shuffling, weights and the test split."""
