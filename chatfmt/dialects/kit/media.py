"""Find the columns of images, videos and audio that belong to the conversation of a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...json_columns import medium_to_text
from ...schema import MEDIA
from .names import MEDIA_COLUMNS, MEDIA_LIKE

_REFERENCE = re.compile(r"data:.*|\w+://.*|[^\n]*\.\w{2,5}", re.DOTALL)


def find_media(record: Mapping[str, Any], part: str) -> str | None:
    """Return the column of the `images`, `videos` or `audios` of a row, None if it has none.

    A column with one of the names that trainers read needs media in it, or the row a placeholder (`<image>`) or a
    content part (`{"type": "image"}`); a column of another name (`image_path`) always needs the latter.
    """
    names = [name for name in (*MEDIA_COLUMNS[part], *MEDIA_LIKE[part]) if record.get(name)]
    if not names:
        return None
    if _refers(record, MEDIA[part]):
        return names[0]
    return next((name for name in names if name in MEDIA_COLUMNS[part] and _is_media(record[name])), None)


def with_bytes_as_text(content: Any) -> Any:
    """Return the content of a turn with the bytes of media in its parts as text; see `json_columns.medium_to_text`."""
    if not isinstance(content, list):
        return content
    return [_with_text(part) if isinstance(part, Mapping) else part for part in content]


def _with_text(part: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = next((kind for kind in MEDIA.values() if kind == part.get("type")), "")
    medium = part.get(kind)
    if not isinstance(medium, Mapping) or not isinstance(medium.get("bytes"), bytes):
        return part
    return {**part, kind: medium_to_text({"path": None, **medium})}


def _refers(value: Any, kind: str) -> bool:
    """Return whether a row, or a value inside it, has a placeholder or a content part of that kind."""
    if isinstance(value, str):
        return f"<{kind}>" in value
    if isinstance(value, Mapping):
        return kind in str(value.get("type")) or any(_refers(item, kind) for item in value.values())
    return isinstance(value, list) and any(_refers(item, kind) for item in value)


def _is_media(value: Any) -> bool:
    """Return whether a value is a path or URL with an ending, bytes, `{"bytes", "path"}`, or a list of such values."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_media, value))
    if isinstance(value, Mapping):
        return isinstance(value.get("bytes"), bytes) or any(_is_media(value.get(key)) for key in ("path", "url"))
    return isinstance(value, bytes) or (isinstance(value, str) and _REFERENCE.fullmatch(value) is not None)
