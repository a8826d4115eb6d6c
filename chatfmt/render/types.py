"""Names that all of `render` shares; imports neither Jinja nor Arrow."""

from __future__ import annotations

import datetime

UNDATED = datetime.date(2024, 7, 26)
"""The day that templates see where nobody named one: the day that Llama 3's own templates fall back on."""
CONTEXT_NAMES = ("messages", "tools", "documents", "add_generation_prompt")
"""The names that every render sets, which no template variable may take."""
Span = tuple[int, int]
"""`[start, end)` in code points of a rendered text."""
Moment = datetime.date
"""A day, or a `datetime.datetime` where the hour matters."""
