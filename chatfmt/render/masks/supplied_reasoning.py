"""`--train-reasoning all`: train the opening of reasoning, and empty blocks of it, that a template supplies.

The training templates of TRL count them to the answer. A model is given them with the generation prompt, so spans
leave them out otherwise.
"""

from __future__ import annotations

import re

import pyarrow as pa

from ..options import SPANS

_SUPPLIED = re.compile(
    r"(?:<([\w:]*think[\w:]*)>(?:\s*</\1>)?|\[THINK\](?:\s*\[/THINK\])?|<\|channel>thought(?:\s*<channel\|>)?"
    r"|<\|START_THINKING\|>(?:\s*<\|END_THINKING\|>)?)\s*\Z"
)
LONGEST = 80
"""Characters before a span in which the opening of reasoning is looked for."""


def with_supplied_reasoning(texts: pa.StringArray, spans: pa.ListArray) -> pa.ListArray:
    """Return the spans of each text, begun where reasoning before them opens; null where there are none."""
    rows = zip(texts.to_pylist(), spans.to_pylist(), strict=True)
    return pa.array(
        [None if None in (text, found) else [_extended(text, *span) for span in found] for text, found in rows], SPANS
    )


def _extended(text: str, start: int, end: int) -> list[int]:
    first = max(0, start - LONGEST)
    supplied = _SUPPLIED.search(text[first:start])
    return [first + supplied.start() if supplied else start, end]
