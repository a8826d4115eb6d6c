"""Render one conversation as transformers does: its Jinja environment, inputs, and errors."""
