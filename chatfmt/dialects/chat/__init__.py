"""Dialects of conversations as turns or as one text; preferences and datasets made for tool use live elsewhere."""
