"""Dialects with a question and an answer in separate columns, also multiple choice, reasoning and plain text."""
