"""Find out from a sample of rows which kinds of media the content of its turns holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ..json_columns import JSON, TEXT, is_turns
from ..schema import MEDIA
from .parts import PART_OF, kind_of_key


def mentioned(batches: Sequence[pa.RecordBatch]) -> tuple[str, ...]:
    """Return the columns of media that content parts in these source batches need, such as `images`."""
    kinds = {kind for batch in batches for column in batch.columns for kind in _kinds(column)}
    return tuple(name for name, kind in MEDIA.items() if kind in kinds)


def _kinds(column: pa.Array) -> Iterator[str]:
    """Yield the kinds of media in turns: those of JSON content, and the keys of parts in Arrow structs."""
    if column.type == TEXT:
        yield from _kinds_of_lists(column)
    if not is_turns(column.type):
        return
    items = column.flatten()
    for index, field in enumerate(column.type.value_type):
        if field.type == JSON:
            yield from _kinds_of_lists(items.field(index))
        elif is_turns(field.type):
            yield from (kind for key in field.type.value_type if (kind := kind_of_key(key.name)))


def _kinds_of_lists(texts: pa.Array) -> Iterator[str]:
    lists = texts.filter(pc.starts_with(texts, "["))
    return (kind for kind, pattern in PART_OF.items() if pc.any(pc.match_substring_regex(lists, pattern)).as_py())
