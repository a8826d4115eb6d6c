"""Types and constants shared by all of `render`; imports neither Jinja nor Arrow."""

from __future__ import annotations

import datetime

UNDATED = datetime.date(2024, 7, 26)
"""The date that templates see by default, the one that the templates of Llama 3 fall back on."""
CONTEXT_NAMES = ("messages", "tools", "documents", "add_generation_prompt")
"""The names that every render sets; template variables may not use them."""
Span = tuple[int, int]
"""`[start, end)` in code points of a rendered text."""
Moment = datetime.date
"""A date, or a `datetime.datetime` if the time of day matters."""
