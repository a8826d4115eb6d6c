"""Content parts and placeholders that stand for an image, a video or an audio clip."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct

KINDS = ("image", "video", "audio")
KIND_OF = {name: kind for kind in KINDS for name in (kind, f"{kind}_url", f"input_{kind}")}
"""The kind of medium that a key of a part holds, and its type names."""
_INLINE = ("inline_data", "inlineData")
_PLACEHOLDER = re.compile(f"<({'|'.join(KINDS)})>")
PART = rf'"(type":"({"|".join(KIND_OF)})"|({"|".join((*KINDS, *_INLINE))})":)'
"""Finds JSON content that may have parts of media."""

MEDIUM_KEYS = frozenset(("url", "path", "base64", "data", "source", "format", "media_type", "mime_type", "mimeType"))
MEDIUM_KEYS |= {*KIND_OF, *_INLINE}
"""Keys of parts, and of objects inside them, whose values go to the columns of media."""
PART_OF = {
    kind: rf"""(?s)^\[.*(["']type["']: ?["']({"|".join(name for name in KIND_OF if KIND_OF[name] == kind)})["']|"""
    rf"""[\[,] ?\{{["']{kind}["']:)"""
    for kind in KINDS
}
"""Finds JSON or Python lists with parts of each kind."""


class MediaPart(Struct, frozen=True):
    """A content part that stands for a medium: its kind, the medium (None: a placeholder), and its other keys."""

    kind: str
    medium: Any
    rest: Mapping[str, Any]


def read_part(part: Any) -> MediaPart | None:
    """Return what a content part stands for; None if it is not a medium, or one known to a provider only (`file_id`).

    Read are the parts of transformers (`image`, `url`, `path` or `base64` in a part of type `image`), OpenAI
    (`image_url`, `input_image`, `input_audio`), Anthropic (`source`), Gemini (`inlineData`) and Qwen (no `type`).
    """
    if not isinstance(part, Mapping):
        return None
    inline = next((part[name] for name in _INLINE if isinstance(part.get(name), Mapping)), None)
    if inline is not None:
        part = {"type": str(_mime_type(inline)).partition("/")[0], "data": inline}
    kind = KIND_OF.get(part["type"]) if "type" in part else next((kind for kind in KINDS if kind in part), None)
    if kind is None:
        return None
    keys = (kind, f"{kind}_url", f"input_{kind}", "url", "path", "base64", "data", "source")
    key = next((key for key in keys if part.get(key) is not None), None)
    rest = {name: value for name, value in part.items() if name not in ("type", *keys)}
    if key is None:
        return None if "file_id" in part else MediaPart(kind, None, rest)
    medium, more = _medium_of(part[key], kind)
    return None if medium is None else MediaPart(kind, medium, {**rest, **more})


def _medium_of(value: Any, kind: str) -> tuple[Any, Mapping[str, Any]]:
    """Return the path, URL or data URI in the value of a part (a list: the frames of a video), and its other keys."""
    if not isinstance(value, Mapping):
        return value or None, {}
    key = next((key for key in ("url", "path", "data") if isinstance(value.get(key), str)), None)
    if key is None or value.get("bytes"):
        return None, {}
    named = ("type", "url", "path", "data", "bytes", "format", "media_type", "mime_type", "mimeType")
    rest = {name: item for name, item in value.items() if name not in named}
    if key != "data":
        return value[key], rest
    mime_type = _mime_type(value) or f"{kind}/{value.get('format', '*')}"
    return f"data:{mime_type};base64,{value['data']}", rest


def _mime_type(value: Mapping[str, Any]) -> Any:
    return next((value[name] for name in ("media_type", "mime_type", "mimeType") if name in value), None)


def placeholders(content: Any, kind: str) -> int:
    """Return how many placeholders of a kind are in the text of a content."""
    tag = f"<{kind}>"
    if isinstance(content, str):
        return content.count(tag)
    texts = [part.get("text") for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    return sum(text.count(tag) for text in texts if isinstance(text, str))


def split_text(text: str, kinds: Collection[str]) -> Sequence[Mapping[str, Any]]:
    """Cut text at the placeholders of some kinds: `"<image>\\nWhat?"` is an image part and the text `"\\nWhat?"`."""
    parts: list[Mapping[str, Any]] = []
    last = 0
    for match in _PLACEHOLDER.finditer(text):
        if match[1] in kinds:
            parts += [{"type": "text", "text": text[last : match.start()]}, {"type": match[1]}]
            last = match.end()
    parts.append({"type": "text", "text": text[last:]})
    return [part for part in parts if part.get("text") != ""] or parts
