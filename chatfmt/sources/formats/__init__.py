"""Readers of the input formats, one module each: JSON Lines, JSON, CSV, Parquet, Arrow, rejects files."""
