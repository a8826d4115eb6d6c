"""Figures of a whole dataset, gathered batch by batch in memory that does not grow with it."""
