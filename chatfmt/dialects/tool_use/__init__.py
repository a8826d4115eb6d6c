"""Dialects of datasets made for tool use; formats of provider APIs, which have tool calls too, are in chat."""
