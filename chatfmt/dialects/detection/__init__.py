"""Detect the dialect that fits a sample of rows, or explain why none does; `mixed` detects it row by row."""
