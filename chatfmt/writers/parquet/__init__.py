"""Parquet files checked and joined without decoding them."""
