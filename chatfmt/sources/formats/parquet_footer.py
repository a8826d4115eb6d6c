"""What the footer of a Parquet file claims, held against what is there: no checksum guards it.

A changed footer may claim fewer rows than there are, or let pyarrow end the process; both become errors here.
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
    """The metadata of the column chunks of each of the row groups.

    Raises what pyarrow raises for damage; without the look through a reader, `column` would end the process there.
    """
    found = [file.metadata.row_group(group) for group in groups]
    if filled := [group for group, metadata in zip(groups, found, strict=True) if metadata.num_columns]:
        for _ in file.reader.iter_batches(0, filled, None, use_threads=False):  # it divides by their number
            break
    return [[metadata.column(index) for index in range(metadata.num_columns)] for metadata in found]


class FooterCheck:
    """Counts what a run of row groups gives, for `check` against what the footer says of them."""

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
        """Raises InputError where the groups had more or less than claimed; `names` are the columns read."""
        if self.left or any(self._entries.get(name) for name in names):
            raise InputError(
                f"damaged: the footer claims {self._rows} rows, which do not fit what is there", code="file.damaged",
                at=Location(shown), hint="fetch or write the file again",
            )  # fmt: skip


def _first_leaves(schema: pa.Schema) -> Iterator[int]:
    """The number of the first leaf column of each column."""
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
    """How many values Parquet stores for a column, a null or an empty list among them; None where that is intricate."""
    type = column.type
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        if not _is_flat(type.value_type):
            return None
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        return int(pc.sum(pc.max_element_wise(lengths, 1)).as_py() or 0)
    return len(column) if _is_flat(type) else None


def _is_flat(type: pa.DataType) -> bool:
    """Whether there is at most one value of the type's first leaf for each value of the type."""
    if pa.types.is_struct(type):
        return bool(type.num_fields) and _is_flat(type.field(0).type)
    return pa.types.is_dictionary(type) or not type.num_fields


def check_not_joined(path: str, file: pq.ParquetFile, shown: str) -> None:
    """Raises InputError for Parquet files that were joined byte by byte: readers see the last of them only."""
    size = Path(path).stat().st_size
    (last,) = column_chunks(file, file.num_row_groups - 1) if file.num_row_groups else ([],)
    footer = size - 8 - file.metadata.serialized_size
    begin = max(max(map(_end, last), default=4) - len(_TWO_FILES), 4)
    if begin < footer:
        with Path(path).open("rb") as data:
            data.seek(begin)
            if _TWO_FILES in data.read(min(footer - begin, _SEARCHED)):
                raise InputError(
                    "these are several Parquet files in one", code="file.damaged", at=Location(shown),
                    hint="name them one by one, or join them with a tool that knows Parquet",
                )  # fmt: skip


def _end(chunk: Any) -> int:
    begin = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    return int(min(begin, chunk.data_page_offset) + chunk.total_compressed_size)
