"""Content as text or as a list of typed blocks, in the spellings of providers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ... import json_columns
from ...errors import DialectError
from ...schema import REASONING_FIELDS
from ...turn_columns import refuse_turns, starting_with
from .literals import are_texts, read_literal

_TEXT_KEYS = ("text", "content", "value", "parts", "thinking", "summary")
"""Keys under which an object, a turn or a block holds its text or its blocks."""


THOUGHTS = ("thinking", "reasoning")
"""The types of blocks that hold what an assistant thinks."""


def join_blocks(parts: Sequence[Any]) -> Any:
    """Return content parts as content: the text of a single text part, else the parts with text as type `text`.

    Raises DialectError `msg.type` for a part that is neither an object nor text.
    """
    if not all(isinstance(part, (Mapping, str)) for part in parts):
        raise DialectError("a content part is neither an object nor text", code="msg.type")
    named = [_named({"text": part} if isinstance(part, str) else part) for part in parts]
    lone = len(named) == 1 and named[0].get("type") == "text" and isinstance(named[0].get("text"), str)
    return named[0]["text"] if lone else named


def _named(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part whose text is under `text`, with the type `text`; a part of this type may hold it as `content`."""
    part = _without_orders(part)
    if _has_content(part):
        return {"text" if key == "content" else key: value for key, value in part.items()}
    is_text = isinstance(part.get("text"), str) and part.get("type") not in THOUGHTS
    return {**part, "type": "text"} if is_text else dict(part)


def _has_content(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "text" and "text" not in part and isinstance(part.get("content"), str)


def _without_orders(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a part without its instructions to the server of a model, such as to cache it."""
    return {key: value for key, value in part.items() if key != "cache_control"} if "cache_control" in part else part


def content_of(value: Any) -> Any:
    """Return the content in text, in an object or a turn that holds it, or in a list of blocks; None without text.

    `"a"`, `{"text": "a"}`, `{"role": "system", "content": [{"text": "a"}]}` and `{"parts": [{"text": "a"}]}` are `a`;
    several blocks stay content parts.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return next((found for key in _TEXT_KEYS if (found := content_of(value.get(key))) is not None), None)
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(block, Mapping) and content_of(block) is not None for block in value):
        return None
    if all(isinstance(block.get("text"), str) for block in value):
        return join_blocks(value)
    texts = [content_of(block) for block in value]
    return texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]


def text_of(value: Any) -> str | None:
    """Return the text that `content_of` finds, several blocks with a blank line between them; None without text."""
    content = content_of(value)
    if not isinstance(content, list):
        return content  # type: ignore[no-any-return]
    texts = [block["text"] for block in content if isinstance(block["text"], str)]
    return "\n\n".join(texts) if len(texts) == len(content) else None


def readable_content(fields: Mapping[str, pa.Array], lists: pa.ListArray) -> dict[str, pa.Array]:
    """Return the fields of turns that hold blocks without a type, parts as JSON text, or reasoning as an object, read.

    Raises DialectError `msg.type` for reasoning without text.
    """
    out: dict[str, pa.Array] = {}
    content = fields.get("content")
    if content is not None and content.type == json_columns.JSON:
        out |= _changed("content", content, f"{_BARE}|{_QUOTED_PARTS}|{_RICH_TEXT}|{_CACHED}", _read_content, lists)
    elif content is not None and content.type == json_columns.TEXT:
        likely = starting_with(content, b"[ \t\n\f\r")  # there are few, and a pattern is slower
        if pc.any(pc.match_substring_regex(likely, WRITTEN_PARTS)).as_py():
            out |= _changed("content", content, WRITTEN_PARTS, _read_content, lists)
    ids = fields.get("tool_call_ids")
    if ids is not None and "tool_call_id" not in fields:
        found = [value if value is json_columns.ABSENT else _only(value) for value in json_columns.decode_values(ids)]
        out["tool_call_id"] = json_columns.encode_values(found, turns=False)
    for name in REASONING_FIELDS:
        if name in fields and fields[name].type == json_columns.JSON:
            out |= _changed(name, fields[name], r"^[\[{]", _read_thoughts, lists)
    return out


def _read_thoughts(value: Any) -> str | None:
    """Return the text of reasoning; a list may hold texts."""
    return "\n\n".join(value) if are_texts(value) else text_of(value)


def _only(ids: Any) -> Any:
    """Return the call that a tool turn answers from a list of one (SWE-agent)."""
    return ids[0] if isinstance(ids, list) and len(ids) == 1 and isinstance(ids[0], str) else json_columns.ABSENT


WRITTEN_PARTS = r"""^\s*\[\s*\{\s*["']type["']\s*:\s*["'](text|image|image_url|video|audio)["']"""
_QUOTED_PARTS = r'^"\s*\[\s*\{\s*\\"type\\"\s*:\s*\\"(text|image|image_url|video|audio)\\"'
_BARE = r'[\[,]\{("text"|"type":"text","content"):'
_RICH_TEXT = r'^\["|^\[\{[^{}]*\},"'
"""Text of one message in pieces: joined as they are if some are objects with a format (Telegram), else parts."""
_CACHED = r'"cache_control":'
_PARTS = ("text", "image", "image_url", "video", "audio")


def _changed(
    name: str, values: pa.Array, pattern: str, read: Callable[[Any], Any], lists: pa.ListArray
) -> dict[str, pa.Array]:
    """Return the field with the values that match `pattern` read again; nothing if none does."""
    places = pc.indices_nonzero(pc.match_substring_regex(values, pattern).fill_null(False)).to_pylist()
    if not places:
        return {}
    found = json_columns.decode_values(values)
    for turn in places:
        found[turn] = read(found[turn])
    lost = {turn for turn in places if found[turn] is None}
    wrong = pa.array([turn in lost for turn in range(len(found))])
    text = f"`{name}` is an object or a list without text"
    refuse_turns(lists, wrong, lambda _: DialectError(text, code="msg.type"))
    return {name: json_columns.encode_values(found, turns=False)}


def _read_content(value: Any) -> Any:
    blocks = read_literal(value)
    if are_texts(value):
        return join_blocks(value)
    if isinstance(value, list) and any(isinstance(piece, str) for piece in value):
        texts = [piece if isinstance(piece, str) else content_of(piece) for piece in value]
        return "".join(texts) if all(isinstance(text, str) for text in texts) else value
    if not isinstance(blocks, list) or not all(isinstance(block, Mapping) for block in blocks):
        return value
    if isinstance(value, str):
        return blocks if all(block.get("type") in _PARTS for block in blocks) else value
    bare = [isinstance(block.get("text"), str) if "type" not in block else _has_content(block) for block in blocks]
    if all(bare):
        return join_blocks(blocks)
    return [_named(block) if is_bare else _without_orders(block) for block, is_bare in zip(blocks, bare, strict=True)]
