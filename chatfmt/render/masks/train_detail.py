"""The parts of an answer that are trained: `train_detail`, as axolotl reads it.

    {"role": "assistant", "content": "aaa bbb", "train_detail": [
      {"begin_offset": 0, "end_offset": 2, "train": false}, {"begin_offset": 3, "end_offset": 6, "train": true}]}

Offsets are those of the first and of the last character of a part. Of the content only what a part with `train: true`
covers is trained, and of the rest of the turn what follows the content: calls and the stop token, but no reasoning. An
empty list is a turn that is not trained. A flag such as `train: false` wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import RenderError
from ...schema import TRAIN_DETAILS
from ..types import Span


def train_detail(message: Mapping[str, Any]) -> list[Any] | None:
    """Return the parts of a message, None if it names none; raises RenderError `mask.flag` if they are not a list."""
    name = next((name for name in TRAIN_DETAILS if message.get(name) is not None), None)
    if name is not None and not isinstance(message[name], list):
        raise RenderError(f"`{name}` of a message is not a list of parts", code="mask.flag")
    return None if name is None else message[name]


def trained_parts(message: Mapping[str, Any]) -> list[Span]:
    """Return the trained parts of the content in code points, in order, none of them empty.

    Raises RenderError `mask.flag` for a part without two offsets and `train`, or beyond the content.
    """
    content = message.get("content")
    if not isinstance(content, str):
        raise RenderError("`train_detail` is about content that is text", code="mask.flag")
    chosen: list[Span] = []
    for part in train_detail(message) or ():
        begin, end, trained = map(part.get, _KEYS) if isinstance(part, Mapping) else (None, None, None)
        if type(begin) is not int or type(end) is not int or not isinstance(trained, bool):
            raise RenderError(
                "a part of `train_detail` needs `begin_offset`, `end_offset` and `train`", code="mask.flag"
            )
        if not 0 <= begin <= end < len(content):
            raise RenderError(
                f"a part of `train_detail` is from {begin} to {end}, and the content has {len(content):,} characters",
                hint="`end_offset` is that of the last character",
                code="mask.flag",
            )
        chosen += [(begin, end + 1)] if trained else []
    return sorted(chosen)


def content_place(text: str, found: Sequence[Span], content: str) -> tuple[int, Span] | None:
    """Return where a content begins in a rendered text, and which span of the text it is; None if it is changed.

    `found` are the spans of its parts that are not inline reasoning. White space around the content that is not printed
    is before or after the span.
    """
    if not found:
        return None
    core, (start, end) = content.strip(), found[-1]
    last = start + len(text[start:end].rstrip())
    begin = last - len(content.rstrip())
    place = (begin, begin + len(content)) if begin >= 0 else (0, 0)
    if text[slice(*place)] != content:
        place = max(last - len(core), 0), last
    printed = text[slice(*place)] in (content, core) and place[0] <= found[0][0]
    return (begin, place) if printed and core else None


_KEYS = ("begin_offset", "end_offset", "train")
