"""Rows of output: the names and types of their columns, their order in blocks, and packing; not what is in them."""
