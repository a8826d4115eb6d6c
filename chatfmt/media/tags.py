"""Write media as placeholders in the text, for trainers that look for `<image>` there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from ..json_columns import JSON, dumps, loads, message_columns, with_column
from ..schema import MEDIA, is_text_part
from ..turn_columns import field, text_where_all_text, with_field

TAGS = {kind: f"<{kind}>" for kind in MEDIA.values()}


def to_tags(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with text for content of text parts and media: `"<image>What?"`.

    Content with any other part, or with a part that has further keys, stays a list of parts.
    """
    for name, column in message_columns(batch):
        content = field(column.flatten(), "content")
        if content.type == JSON:
            texts = [text and dumps(_tagged(loads(text))) for text in content.to_pylist()]
            column = text_where_all_text(with_field(column, "content", pa.array(texts, JSON)))
            batch = with_column(batch, name, column)
    return batch


def _tagged(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    texts = [_text_of(part) for part in content]
    return content if None in texts else "".join(text for text in texts if text is not None)


def _text_of(part: Any) -> str | None:
    if isinstance(part, Mapping) and part.keys() == {"type"}:
        return TAGS.get(part["type"])
    return part["text"] if is_text_part(part) else None
