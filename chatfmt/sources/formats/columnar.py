"""Read Parquet and Arrow files as source batches: native types, with one type each for text and for lists.

Page checksums are verified if the file has them, and every batch is validated in full, so damage is an error and never
altered text. A batch holds about `batch_bytes` at most, whatever the footer claims.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ...arrow_values import as_integers, to_values
from ...errors import InputError, Location, located
from ...features import declared_features, declared_type
from ...json_columns import JSON, MOST_COLUMNS, TEXT, TOO_MANY, is_turns, json_array, names_inside, to_plain
from ...schema import KEYS, ROW
from ...stores import is_remote
from ...turn_columns import fields_of, rows_of_turns, struct_of, with_turns
from ..bytes.compression import check_ratio, open_binary, unreadable_error, vanished
from ..json.strict import parse_value
from ..model import ReadOptions, RowGroups
from .parquet_footer import FooterCheck, check_not_joined, column_chunks, leaves_of
from .shared_values import DECODED_BYTES, PLAINLY, is_list, is_read_as_json, joined, own_values

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_DECODED_ROWS = 64
"""Rows decoded at a time, which is as fast as thousands."""
_MOST_DECODED = 1 << 30
"""Bytes up to which the values of a file may be any multiple of its size: equal rows share theirs."""
_BUFFER = 1 << 20
"""Read-ahead per column; without it a whole row group is buffered, which may be the whole file."""
_GROUPS_AT_ONCE = 32
"""Row groups whose metadata is checked at once."""


@contextmanager
def translate_arrow_errors(shown: str) -> Iterator[None]:
    """Turn errors of pyarrow for a damaged file into InputError."""
    try:
        yield
    except MemoryError as error:
        raise InputError(
            f"out of memory: {str(error) or 'allocation failed'}", code="file.memory", at=Location(shown),
            hint="if the file is intact: use fewer `--workers`, or a machine with more memory",
        ) from None  # fmt: skip
    except (pa.ArrowException, OSError, ValueError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, OSError) and "[errno" in text.lower():
            raise unreadable_error(text, Location(shown)) from None
        code = "file.checksum" if "CRC" in text or "checksum" in text else "file.damaged"
        raise InputError(
            f"damaged: {text}", code=code, at=Location(shown), hint="download or write the file again"
        ) from None


def open_parquet(uri: str, shown: str) -> pq.ParquetFile:
    """Open a Parquet file, to verify its checksums while reading. Raises InputError."""
    import pyarrow.parquet as pq  # imports ssl and file systems, which other formats do not need

    source = open_binary(uri) if is_remote(uri) else uri
    if not is_remote(uri) and not Path(uri).exists():
        raise vanished(uri)
    with translate_arrow_errors(shown):
        ahead = {"pre_buffer": True} if is_remote(uri) else {"pre_buffer": False, "buffer_size": _BUFFER}
        return pq.ParquetFile(source, page_checksum_verification=True, **ahead)


def check_parquet(path: str, shown: str) -> None:
    """Raise InputError if a local Parquet file has a damaged footer, or is several files joined."""
    with open_parquet(path, shown) as file, translate_arrow_errors(shown):
        check_not_joined(path, file, shown)


def read_parquet(
    uri: str, shown: str, piece: RowGroups, first_row: int, options: ReadOptions
) -> Iterator[pa.RecordBatch]:
    """Yield source batches of some row groups, in order; small groups are read together."""
    with open_parquet(uri, shown) as file:
        names = columns_to_read(file.schema_arrow, options.columns, shown)
        row, came, unpacked, fed = first_row - piece.skip, 0, 0, 0
        stop = None if piece.take is None else first_row + piece.take
        if piece.take is not None:
            options = replace(options, batch_rows=min(options.batch_rows, max(1, piece.skip + piece.take)))
        leaves = leaves_of(file.schema_arrow, names)
        groups = _groups(file, shown, range(piece.first, piece.stop), options)
        for run in _runs(groups):
            if stop is not None and row >= stop:
                return
            rows = min(_DECODED_ROWS, _size(run), *(_rows_at_once(uri, group.chunks) for group in run))
            fed += sum(chunk.total_compressed_size for group in run for chunk in group.chunks)
            unpacked += sum(group.chunks[leaf].total_uncompressed_size for group in run for leaf in leaves)
            check_ratio(unpacked, fed, shown, PLAINLY)
            with translate_arrow_errors(shown):
                decoded = file.iter_batches(
                    rows, row_groups=[group.number for group in run], columns=names, use_threads=False
                )
                batches = joined(decoded, _size(run), options.batch_bytes)
            count = FooterCheck(file.schema_arrow, [group.chunks for group in run], sum(group.rows for group in run))
            while (batch := next_batch(batches, shown)) is not None:
                start, row, came = row, row + batch.num_rows, came + batch.nbytes
                check_decoded(came, fed, shown)
                count.add(batch)
                piece_of = between(batch, start, first_row, stop)
                if piece_of.num_rows:
                    yield to_source_batch(piece_of, shown, max(start, first_row))
                if stop is not None and row >= stop and count.left:
                    return
            count.check(shown, file.schema_arrow.names if names is None else names)


class _Group(Struct, frozen=True):
    """A row group with the metadata of its column chunks; `size` is the number of rows of a batch."""

    number: int
    rows: int
    size: int
    chunks: Sequence[Any]


def _groups(file: pq.ParquetFile, shown: str, numbers: Sequence[int], options: ReadOptions) -> Iterator[_Group]:
    rows = size = 0
    for start in range(0, len(numbers), _GROUPS_AT_ONCE):
        some = numbers[start : start + _GROUPS_AT_ONCE]
        with translate_arrow_errors(shown):
            groups = [
                _Group(number, metadata.num_rows, _batch_size(metadata, options), chunks)
                for number, chunks in zip(some, column_chunks(file, *some), strict=True)
                for metadata in (file.metadata.row_group(number),)
            ]
        for group in groups:
            rows += min([group.rows, *(chunk.num_values for chunk in group.chunks)])  # one of them may be a lie
            size += sum(chunk.total_compressed_size for chunk in group.chunks)
        check_ratio(rows, size, shown, PLAINLY)
        yield from groups


def check_decoded(came: int, fed: int, shown: str) -> None:
    """Raise InputError if the values of a file of `fed` bytes have far more bytes than it can mean to."""
    if came > _MOST_DECODED:
        check_ratio(came, fed, shown, PLAINLY)


def _runs(groups: Iterable[_Group]) -> Iterator[list[_Group]]:
    """Group neighbours that fit into one batch; a larger group stays alone."""
    run: list[_Group] = []
    for group in groups:
        if run and sum(one.rows for one in run) + group.rows > _size([*run, group]):
            yield run
            run = []
        run.append(group)
    if run:
        yield run


def _size(run: Sequence[_Group]) -> int:
    return min(group.size for group in run)


def next_batch(batches: Iterator[pa.RecordBatch], shown: str) -> pa.RecordBatch | None:
    with translate_arrow_errors(shown):
        batch = next(batches, None)
        if batch is not None:
            _validate(batch)
        return batch


def _validate(batch: pa.RecordBatch) -> None:
    """Raise ArrowInvalid for damage; times of day beyond 24 hours are strange, but no damage."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        batch.validate()
        for column in batch.columns:
            _validate_column(column)


def _validate_column(column: pa.Array) -> None:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:  # only then: before 26, Arrow crashes on the views of some types
        column.view(as_integers(column.type)).validate(full=True)


def between(batch: pa.RecordBatch, start: int, first: int, stop: int | None) -> pa.RecordBatch:
    begin = max(first - start, 0)
    end = batch.num_rows if stop is None else max(stop - start, begin)
    return batch.slice(begin, min(end, batch.num_rows) - min(begin, batch.num_rows))


def _batch_size(group: Any, options: ReadOptions) -> int:
    """The number of rows of a row group in a batch, for about `batch_bytes` by the sizes in the footer."""
    average = options.batch_bytes * max(group.num_rows, 1) // max(group.total_byte_size, 1)
    return int(max(1, min(options.batch_rows, average)))


def _rows_at_once(uri: str, chunks: Sequence[Any]) -> int:
    """The number of rows to decode at once: any of them may repeat a value of a dictionary, which no footer shows."""
    largest = max((_dictionary_bytes(uri, chunk) for chunk in chunks if chunk.has_dictionary_page), default=0)
    return max(1, DECODED_BYTES // max(largest, 1))


def _dictionary_bytes(uri: str, chunk: Any) -> int:
    """The most that a value in the dictionary of a column chunk has: the size of its page, which the page itself says.

    A page begins with its kind and its size, two fields of Thrift's compact protocol:
    https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
    """
    if is_remote(uri) or chunk.total_uncompressed_size <= DECODED_BYTES // _DECODED_ROWS:
        return int(min(chunk.total_uncompressed_size, DECODED_BYTES // _DECODED_ROWS))
    with Path(uri).open("rb") as file:
        file.seek(chunk.dictionary_page_offset)
        start = file.read(8)
    if start[:3] != b"\x15\x04\x15":
        return int(chunk.total_uncompressed_size)
    zigzag = 0
    for index, byte in enumerate(start[3:]):
        zigzag |= (byte & 127) << 7 * index
        if byte < 128:
            break
    return zigzag >> 1


_WHERE = "where the file is written, or with `Table.rename_columns` of pyarrow"


def columns_to_read(schema: pa.Schema, columns: Sequence[str] | None, shown: str) -> list[str] | None:
    if len(schema) > MOST_COLUMNS:
        text, hint = f"the file has {len(schema):,} columns, {TOO_MANY}", "keep what they hold in one column of lists"
        raise InputError(text, code="file.schema", at=Location(shown), hint=hint)
    names = Counter(schema.names)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        text, hint = f"two columns are named `{twice}`", f"rename one {_WHERE}"
        raise InputError(text, code="file.schema", at=Location(shown), hint=hint)
    ours = next((name for name in (ROW, KEYS) if name in names), None)
    if ours is not None:
        text, hint = f"a column is named `{ours}`, which is reserved by chatfmt", f"rename it {_WHERE}"
        raise InputError(text, code="file.schema", at=Location(shown), hint=hint)
    inside = next((field.name for field in schema if KEYS in names_inside(field.type)), None)
    if inside is not None:
        text = f"a key in the column `{inside}` is named `{KEYS}`, which is reserved by chatfmt"
        raise InputError(text, code="file.schema", at=Location(shown), hint="rename it where the file is written")
    return None if columns is None else [name for name in columns if name in names]


def to_source_batch(batch: pa.RecordBatch, shown: str, first_row: int) -> pa.RecordBatch:
    """Return a source batch of a record batch of any types: see `normalised` and `numbered`."""
    columns_to_read(batch.schema, None, shown)
    with located(shown, range(first_row, first_row + batch.num_rows)):
        return numbered(normalised(batch, shown), first_row)


def numbered(batch: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
    """Prepend the column `#row`, counting from `first_row`."""
    rows = pa.array(range(first_row, first_row + batch.num_rows), pa.int64())
    found = pa.RecordBatch.from_arrays([rows, *batch.columns], names=[ROW, *batch.schema.names])
    return found.replace_schema_metadata(batch.schema.metadata)


def normalised(batch: pa.RecordBatch, shown: str) -> pa.RecordBatch:
    """Cast text to `string`, lists to `list`, JSON to `json_columns.JSON`, extension types to their storage type.

    JSON is what `datasets` declares as such, and the extension type `arrow.json`. Raises InputError if a dictionary or
    a large type cannot be cast, RowError for invalid JSON in a JSON column.
    """
    features = declared_features(batch.schema)
    with translate_arrow_errors(shown):
        columns = [_cast(column, features.get(name)) for name, column in zip(batch.schema.names, batch, strict=True)]
    found = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    return found.replace_schema_metadata(batch.schema.metadata)


def _cast(column: pa.Array, feature: Any) -> pa.Array:
    if pa.types.is_null(column.type):
        return column.cast(TEXT)
    column = own_values(column)
    declared = declared_type(normal_type(column.type), feature)
    if not _holds_json(declared):
        return _to_normal(column, declared)
    return _turns_with_json(column, declared) if is_turns(declared) else _parsed(column, declared)


def _to_normal(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    if wanted == column.type:
        return column
    stored = column.storage if isinstance(column.type, pa.BaseExtensionType) else column
    return own_values(stored).cast(wanted)


def _turns_with_json(column: pa.Array, declared: pa.ListType) -> pa.ListArray:
    """Return turns with a JSON field for each key in which JSON is declared, at any depth."""
    lists = _to_normal(column, declared)
    turns = lists.flatten()
    fields = {
        name: _parsed(values, values.type, rows_of_turns(lists).tolist()) if _holds_json(values.type) else values
        for name, values in fields_of(turns).items()
    }
    return with_turns(lists, struct_of(fields, turns.is_null()))


def _parsed(column: pa.Array, declared: pa.DataType, rows: Sequence[int] | None = None) -> pa.Array:
    """Return a JSON column of the values; errors name the row of the value, its own index without `rows`."""
    values = []
    for index, value in enumerate(to_values(column)):
        with located(row=index if rows is None else int(rows[index])):
            values.append(_value(value, declared))
    absent = declared == JSON or rows is not None  # what null means, as in other columns of that type
    return json_array(values, column.is_valid().to_pylist() if absent else None)


def _value(value: Any, declared: pa.DataType) -> Any:
    """Return a Python value with the text of JSON parsed, without the keys that Arrow filled with null."""
    if value is None:
        return None
    if declared == JSON:
        return parse_value(value.encode())
    if pa.types.is_list(declared):
        return [_value(item, declared.value_type) for item in value]
    if pa.types.is_struct(declared):
        return {
            field.name: _value(value[field.name], field.type) for field in declared if value[field.name] is not None
        }
    return to_plain(value)


def normal_type(type: pa.DataType) -> pa.DataType:
    """The type that source batches use for `type`."""
    if isinstance(type, pa.BaseExtensionType):
        return JSON if type.extension_name == "arrow.json" else normal_type(type.storage_type)
    if is_read_as_json(type):
        return JSON
    if pa.types.is_decimal32(type) or pa.types.is_decimal64(type):  # which kernels of pyarrow 26 lack
        return pa.decimal128(type.precision, type.scale)
    if pa.types.is_large_string(type) or pa.types.is_string_view(type):
        return TEXT
    if pa.types.is_binary_view(type):
        return pa.large_binary()
    if pa.types.is_dictionary(type) or pa.types.is_run_end_encoded(type):
        return normal_type(type.value_type)
    if pa.types.is_struct(type):
        return pa.struct([field.with_type(normal_type(field.type)) for field in type])
    if is_list(type):
        return pa.list_(type.value_field.with_name("item").with_type(normal_type(type.value_type)))
    return type


def _holds_json(type: pa.DataType) -> bool:
    return bool(type == JSON or any(_holds_json(type.field(index).type) for index in range(type.num_fields)))
