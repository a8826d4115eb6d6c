"""Check the footer of a Parquet file, which has no checksum, against the content of the file.

A damaged footer may claim fewer rows than there are, or crash pyarrow and the process; both become errors here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ...errors import InputError, Location

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_TWO_FILES = b"PAR1PAR1"
_SEARCHED = 64 << 20


def column_chunks(file: pq.ParquetFile, *groups: int) -> list[list[Any]]:
    """The metadata of the column chunks of each row group.

    Raises pyarrow's errors for damage; without first reading through a reader, `column` would crash the process.
    """
    found = [file.metadata.row_group(group) for group in groups]
    if filled := [group for group, metadata in zip(groups, found, strict=True) if metadata.num_columns]:
        for _ in file.reader.iter_batches(0, filled, None, use_threads=False):  # divides by the number of columns
            break
    return [[metadata.column(index) for index in range(metadata.num_columns)] for metadata in found]


class FooterCheck:
    """Counts the rows and entries read from some row groups, and checks them against the footer."""

    def __init__(self, schema: pa.Schema, groups: Sequence[Sequence[Any]], rows: int) -> None:
        self._rows, self.left = rows, rows
        firsts = dict(zip(schema.names, _first_leaves(schema), strict=True))
        self._entries = {name: sum(chunks[leaf].num_values for chunks in groups) for name, leaf in firsts.items()}

    def add(self, batch: pa.RecordBatch) -> None:
        self.left -= batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if (count := _entries(column)) is None:
                self._entries.pop(name, None)
            elif name in self._entries:
                self._entries[name] -= count

    def check(self, shown: str, names: Sequence[str]) -> None:
        """Raise InputError if the groups held more or less than claimed; `names` are the columns read."""
        if self.left or any(self._entries.get(name) for name in names):
            raise InputError(
                f"damaged: the footer claims {self._rows} rows, which does not match the content", code="file.damaged",
                at=Location(shown), hint="download or write the file again",
            )  # fmt: skip


def leaves_of(schema: pa.Schema, names: Sequence[str] | None) -> list[int]:
    """Return the indices of the leaf columns of the columns `names`; None means all."""
    wanted = set(schema.names if names is None else names)
    firsts = [
        (first, field) for first, field in zip(_first_leaves(schema), schema, strict=True) if field.name in wanted
    ]
    return [leaf for first, field in firsts for leaf in range(first, first + _leaves(field.type))]


def _first_leaves(schema: pa.Schema) -> Iterator[int]:
    """Yield the index of the first leaf column of each column."""
    leaf = 0
    for field in schema:
        yield leaf
        leaf += _leaves(field.type)


def _leaves(type: pa.DataType) -> int:
    if isinstance(type, pa.BaseExtensionType):
        return _leaves(type.storage_type)
    if pa.types.is_dictionary(type) or not type.num_fields:
        return 1
    return sum(_leaves(type.field(index).type) for index in range(type.num_fields))


def _entries(column: pa.Array) -> int | None:
    """The number of values that Parquet stores for a column, including nulls and empty lists; None if unknown."""
    if isinstance(column.type, pa.BaseExtensionType):
        return _entries(column.storage)
    type = column.type
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        if not _is_flat(type.value_type):
            return None
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        return int(pc.sum(pc.max_element_wise(lengths, 1)).as_py() or 0)
    return len(column) if _is_flat(type) else None


def _is_flat(type: pa.DataType) -> bool:
    """Whether each value of the type has at most one value in its first leaf."""
    if isinstance(type, pa.BaseExtensionType):
        return _is_flat(type.storage_type)
    if pa.types.is_struct(type):
        return bool(type.num_fields) and _is_flat(type.field(0).type)
    return pa.types.is_dictionary(type) or not type.num_fields


def check_not_joined(path: str, file: pq.ParquetFile, shown: str) -> None:
    """Raise InputError for concatenated Parquet files, of which readers see only the last."""
    size = Path(path).stat().st_size
    (last,) = column_chunks(file, file.num_row_groups - 1) if file.num_row_groups else ([],)
    footer = size - 8 - file.metadata.serialized_size
    begin = max(max(map(_end, last), default=4) - len(_TWO_FILES), 4)
    if begin < footer:
        with Path(path).open("rb") as data:
            data.seek(begin)
            if _TWO_FILES in data.read(min(footer - begin, _SEARCHED)):
                raise InputError(
                    "the file is several Parquet files concatenated", code="file.damaged", at=Location(shown),
                    hint="name the original files, or merge them with a Parquet tool",
                )  # fmt: skip


def _end(chunk: Any) -> int:
    begin = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    return int(min(begin, chunk.data_page_offset) + chunk.total_compressed_size)
