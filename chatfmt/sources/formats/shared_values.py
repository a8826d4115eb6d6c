"""Give each row values of its own, a bounded number of bytes at a time.

In dictionaries, runs and views many rows share a value, at any depth: a kilobyte may stand for terabytes, of which the
size of a batch says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...arrow_values import to_values
from ...errors import InputError
from ...json_columns import JSON, json_array, to_plain

DECODED_BYTES = 128 << 20
"""The most bytes that are made of shared values at once, unless one row has more."""
PLAINLY = "write its rows as JSON Lines"


def joined(batches: Iterable[pa.RecordBatch], rows: int, size: int) -> Iterator[pa.RecordBatch]:
    """Join small batches to batches of `rows`, or of fewer where these have more than `size` bytes.

    Their columns are as `_with_own_values` returns them.
    """
    waiting: list[pa.RecordBatch] = []
    count = held = 0
    for batch in chain.from_iterable(map(_with_own_values, batches)):
        waiting.append(batch)
        count, held = count + batch.num_rows, held + batch.nbytes
        if count >= rows or held >= size:
            whole = pa.concat_batches(waiting) if len(waiting) > 1 else batch
            yield whole.slice(0, rows)
            waiting = [whole.slice(rows)] if count > rows else []
            count, held = (waiting[0].num_rows, waiting[0].nbytes) if waiting else (0, 0)
    if waiting:
        yield pa.concat_batches(waiting)


def _with_own_values(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a batch in which no values are shared, so that its size in bytes is known."""
    batch.validate()  # what follows trusts the offsets
    shared = [index for index, column in enumerate(batch.columns) if _is_shared(column.type)]
    if not shared:
        yield batch
        return
    rows = max(1, DECODED_BYTES // max(sum(_largest(batch.column(index)) for index in shared), 1))
    for start in range(0, batch.num_rows, rows):
        columns = batch.slice(start, rows).columns
        for index in shared:
            columns[index] = own_values(columns[index])
        made = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        yield made.replace_schema_metadata(batch.schema.metadata)


def own_values(column: pa.Array) -> pa.Array:
    """Return a column without dictionaries, runs and views: lists for list views, which pyarrow 26 casts wrongly."""
    type = column.type
    if not _is_shared(type):
        return column
    if is_read_as_json(type):
        return pa.ExtensionArray.from_storage(pa.json_(JSON), _json_texts(column))
    if isinstance(type, pa.BaseExtensionType):
        return own_values(column.storage)
    if pa.types.is_dictionary(type):
        return own_values(column.dictionary.take(column.indices))
    if pa.types.is_run_end_encoded(type):
        places = pa.array(np.arange(len(column.values)))  # pyarrow does not decode runs of all types
        runs = pa.RunEndEncodedArray.from_arrays(column.run_ends, places).slice(column.offset, len(column))
        return own_values(column.values.take(pc.run_end_decode(runs)))
    if _is_view(type):
        return column.cast(pa.string() if pa.types.is_string_view(type) else pa.large_binary())
    if pa.types.is_struct(type):
        fields = [own_values(column.field(index)) for index in range(type.num_fields)]  # `flatten` aborts on unions
        names = [field.name for field in type]
        return pa.StructArray.from_arrays(fields, names=names, mask=column.is_null())
    if not is_list(type):
        return column
    lengths = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64())
    starts = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
    return pa.LargeListArray.from_arrays(starts, own_values(column.flatten()), mask=column.is_null())


def _json_texts(column: pa.Array) -> pa.Array:
    try:
        return json_array(map(to_plain, to_values(column)))
    except (TypeError, ValueError):
        text = "a union, or a map of shared values, holds bytes, NaN or infinity, which JSON lacks"
        raise InputError(text, code="file.schema", hint=PLAINLY) from None


def viewed_bytes(column: pa.Array) -> int:
    """Return the bytes that the views in a column stand for, all of which a validation reads."""
    type = column.type
    if _is_view(type):
        return int(_view_sizes(column).clip(0).sum(dtype=np.int64))
    if pa.types.is_struct(type):
        return sum(viewed_bytes(column.field(index)) for index in range(type.num_fields))
    if isinstance(type, pa.BaseExtensionType):
        return viewed_bytes(column.storage)
    return viewed_bytes(column.values) if is_list(type) and _is_shared(type) else 0


def _view_sizes(column: pa.Array) -> Any:
    """Return the lengths of views, which come first in their 16 bytes."""
    sizes = np.frombuffer(column.buffers()[1] or b"", np.int32)[::4]
    return sizes[column.offset : column.offset + len(column)]


def _largest(column: pa.Array) -> int:
    """Return the most bytes that a value of the column may have of its own."""
    type = column.type
    if pa.types.is_dictionary(type):
        return _largest(column.dictionary)
    if pa.types.is_run_end_encoded(type):
        return _largest(column.values)
    if pa.types.is_struct(type) or pa.types.is_union(type):
        return sum(_largest(column.field(index)) for index in range(type.num_fields))
    if isinstance(type, pa.BaseExtensionType):
        return _largest(column.storage)
    if is_list(type):
        return 8 + int(pc.max(pc.list_value_length(column)).as_py() or 0) * _largest(column.values)
    if _is_view(type):
        return 8 + int(_view_sizes(column).max(initial=0))
    if pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_binary(type):
        return 8 + int(pc.max(pc.binary_length(column)).as_py() or 0)
    return 8 if type.num_fields == 0 else column.nbytes


@lru_cache(maxsize=256)  # asked of each of many small batches
def _is_shared(type: pa.DataType) -> bool:
    kinds = (
        pa.types.is_dictionary, pa.types.is_run_end_encoded, pa.types.is_list_view, pa.types.is_large_list_view,
        pa.types.is_union,
    )  # fmt: skip
    inner = (type.field(index).type for index in range(type.num_fields))
    if isinstance(type, pa.BaseExtensionType):
        return bool(type.extension_name != "arrow.json")
    return _is_view(type) or any(kind(type) for kind in kinds) or any(map(_is_shared, inner))


def is_read_as_json(type: pa.DataType) -> bool:
    """Return whether values are read as JSON: unions, on which pyarrow 26 aborts, and maps with shared values."""
    if pa.types.is_dictionary(type) or pa.types.is_run_end_encoded(type):
        return _holds_unions(type.value_type)
    return bool(pa.types.is_union(type) or (pa.types.is_map(type) and _is_shared(type)))


def _holds_unions(type: pa.DataType) -> bool:
    inner = [type.value_type] if pa.types.is_dictionary(type) else map(type.field, range(type.num_fields))
    return bool(pa.types.is_union(type) or any(_holds_unions(getattr(one, "type", one)) for one in inner))


def _is_view(type: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(type) or pa.types.is_binary_view(type))


def is_list(type: pa.DataType) -> bool:
    """Return whether a type is one of the kinds of lists, other than maps."""
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)
    return any(kind(type) for kind in (*kinds, pa.types.is_large_list_view))
