"""What a source is made of: its files by split, the pieces they are read in, and how text in them is to be read.

Everything here is frozen plain data: it crosses process boundaries inside a task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgspec import Struct, field

from ..errors import RowError

Format = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow"]
Compression = Literal["gz", "zst", "bz2", "xz"]
FORMATS: tuple[Format, ...] = ("jsonl", "json", "csv", "tsv", "parquet", "arrow")


class ParseOptions(Struct, frozen=True):
    """How to interpret the text of the files, as the user asked; sizes in bytes."""

    field: str | None = None
    """Where the records lie in a JSON document: `data`, `data[].paragraphs[].qas[]`, `values(.)`."""
    header: bool = True
    quote: bool = True
    delimiter: str | None = None
    encoding: str | None = None
    max_row_bytes: int = 64 << 20
    allow_empty: bool = False
    rejects: bool = False
    """The records are lines of a rejects file: the rows to read are those they hold."""


DEFAULTS = ParseOptions()

OnBad = Callable[[RowError, bytes], None]
"""Receives each bad record: its error and its bytes."""


class ReadOptions(Struct, frozen=True):
    """How to cut records into batches, and what to do with bad ones. Stays in the process: `on_bad` may not pickle."""

    columns: Sequence[str] | None = None
    """Columns to read, those that exist; None reads all."""
    on_bad: OnBad | None = None
    """None raises the error of a bad record."""
    batch_rows: int = 4096
    """Rows per batch; of 3 kB each and with two workers, half as many cost 5% more and twice as many gain nothing."""
    batch_bytes: int = 32 << 20
    max_row_bytes: int = 64 << 20


DEFAULT_READ = ReadOptions()


class SourceFile(Struct, frozen=True):
    """One file: `uri` is what to open (a path or an fsspec URL), `shown` its name in messages and manifests."""

    uri: str
    shown: str
    format: Format
    compression: Compression | None
    size: int
    """Bytes as they lie on disk, compressed or not."""


class Source(Struct, frozen=True):
    """What SOURCE turned out to be. `splits` holds the asked splits only, for the Hub, and all there are otherwise."""

    shown: str
    kind: Literal["hub", "files", "stdin"]
    splits: Mapping[str, tuple[SourceFile, ...]] = field(default_factory=dict)
    dataset_id: str | None = None
    revision: str | None = None
    """The commit (40 hex digits) that the files belong to."""
    subset: str | None = None
    licence: str | None = None
    notes: tuple[str, ...] = ()
    """What the user should know, such as that the Hub did not answer and the cache was used."""
    options: ParseOptions = DEFAULTS


class RowGroups(Struct, frozen=True, tag=True):
    """Row groups [first, stop) of a Parquet file (record batches of an Arrow one), `take` rows of them after `skip`."""

    first: int
    stop: int
    skip: int = 0
    take: int | None = None


class ByteRange(Struct, frozen=True, tag="Bytes"):
    """Bytes [start, stop) of an uncompressed text file; both at the start of a record, `line` (from 1) is the first."""

    start: int
    stop: int
    line: int = 1


class RecordRange(Struct, frozen=True, tag="Whole"):
    """A file read from its beginning: `take` records (all if None) after `skip` of them."""

    skip: int = 0
    take: int | None = None


FilePiece = RowGroups | ByteRange | RecordRange


class InputSplit(Struct, frozen=True):
    """A run of records of one file, as planned from the input and the shard options alone.

    `first_row` is the number of its first record in the file, `rows` how many there are, where that is known.
    `split` is the name users know (`train`); `columns` are the names of delimited text whose piece has no header.
    """

    uri: str
    shown: str
    format: Format
    compression: Compression | None
    piece: FilePiece
    first_row: int = 0
    rows: int | None = None
    split: str = "train"
    options: ParseOptions = DEFAULTS
    columns: tuple[str, ...] | None = None
    size: int | None = None
    """Bytes of the file when it was planned; one that has others when it is read has changed."""


def whole_file(file: SourceFile, split: str, options: ParseOptions) -> InputSplit:
    """All of `file` as one piece."""
    return InputSplit(
        file.uri, file.shown, file.format, file.compression, RecordRange(), split=split, options=options, size=file.size
    )
