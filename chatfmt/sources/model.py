"""The data model of a source: its files by split, input splits, and options for parsing and reading them.

All of it is frozen plain data that crosses process boundaries inside a task, except `ReadOptions`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct, field

from ..errors import RowError

Format = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow"]
Compression = Literal["gz", "zst", "bz2", "xz"]
FORMATS: tuple[Format, ...] = ("jsonl", "json", "csv", "tsv", "parquet", "arrow")


class ParseOptions(Struct, frozen=True):
    """Options for parsing the text of the files; sizes in bytes."""

    field: str | None = None
    """Path to the records in a JSON document: `data`, `data[].paragraphs[]`, `values(.)`."""
    header: bool = True
    quote: bool = True
    delimiter: str | None = None
    encoding: str | None = None
    max_row_bytes: int = 64 << 20
    allow_empty: bool = False
    rejects: bool = False
    """The records are lines of a rejects file, and the rows to read are the raw rows in them."""
    grouped: bool = False
    """The records are lines of `formats.grouped`, and the rows to read are the conversations in them."""


DEFAULTS = ParseOptions()

OnBad = Callable[[RowError, bytes], None]
"""Receives each bad record: its error and its bytes."""


class LineRun(NamedTuple):
    """Records on lines that follow each other: the number and the line of the first, and how many there are."""

    row: int
    line: int
    rows: int = 1


class ReadOptions(Struct, frozen=True):
    """Options for cutting records into batches and handling bad ones; `on_bad` need not pickle."""

    columns: Sequence[str] | None = None
    """Columns to read, if they exist; None reads all."""
    on_bad: OnBad | None = None
    """Callback for bad records; None raises their errors."""
    batch_rows: int = 4096
    """Rows per batch. With rows of 3 kB and two workers, half as many cost 5% more and twice as many gain nothing."""
    batch_bytes: int = 32 << 20
    max_row_bytes: int = 64 << 20
    skip: Collection[str] = ()
    """Columns that are not read where `columns` is None."""
    line_bytes: int | None = None
    """Bytes of local JSON Lines that make a batch, if they are few enough lines; None for `CHUNK`."""
    on_lines: Callable[[LineRun], None] | None = None
    """Called with the lines of records of JSON Lines before their batch; not for those among blank lines."""


DEFAULT_READ = ReadOptions()


class SourceFile(Struct, frozen=True):
    """One file: `uri` is the path or fsspec URL to open, `shown` its name in messages and manifests."""

    uri: str
    shown: str
    format: Format
    compression: Compression | None
    size: int
    """Bytes on disk, compressed or not."""
    identity: tuple[int, ...] | None = None
    """The `file_identity` of the file when it was found."""


class Source(Struct, frozen=True):
    """A resolved SOURCE. `splits` holds only the requested splits of a Hub dataset, and all splits otherwise."""

    shown: str
    kind: Literal["hub", "files", "stdin"]
    splits: Mapping[str, tuple[SourceFile, ...]] = field(default_factory=dict)
    dataset_id: str | None = None
    revision: str | None = None
    """The commit (40 hex digits) that the files belong to."""
    subset: str | None = None
    licence: str | None = None
    languages: tuple[str, ...] = ()
    """ISO 639 codes, as the card of the dataset has them."""
    notes: tuple[str, ...] = ()
    """Notes for the user, such as that the Hub did not answer and the cache was used."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """What is wrong with columns of which the first rows cannot be read."""
    options: ParseOptions = DEFAULTS
    originals: tuple[SourceFile, ...] = ()
    """The files that those of `splits` were made of, if they were made for this run."""

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files of all splits."""
        return tuple(file for files in self.splits.values() for file in files)

    @property
    def files_as_found(self) -> tuple[SourceFile, ...]:
        """The files of all splits as the user has them."""
        return self.originals or self.files


class RowGroups(Struct, frozen=True, tag=True):
    """Row groups [first, stop) of a Parquet file: `take` of their rows after the first `skip`."""

    first: int
    stop: int
    skip: int = 0
    take: int | None = None


class ByteRange(Struct, frozen=True, tag="Bytes"):
    """Bytes [start, stop) of an uncompressed text file, from one record start to another; `line` counts from 1."""

    start: int
    stop: int
    line: int = 1


class RecordRange(Struct, frozen=True, tag="Whole"):
    """Records of a file read from its beginning: `take` records (all if None) after the first `skip`."""

    skip: int = 0
    take: int | None = None


FilePiece = RowGroups | ByteRange | RecordRange


class InputSplit(Struct, frozen=True):
    """Consecutive records of one file, planned from the input and the shard options alone.

    `first_row` is the number of the first record in the file, `rows` the number of records if known. `split` is the
    name users know (`train`). `columns` are the column names of delimited text if the piece has no header.
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
    """Bytes of the file when it was planned; if they differ when it is read, the file has changed."""
    folder: str | None = None
    """The folder of the files that its records name, if such files are to be read."""
    content: str | None = None
    """XXH3-128 (hex) of the bytes of the file when it was planned; a file with other bytes is not read."""
    identity: tuple[int, ...] | None = None
    """The `file_identity` of the file when it was found; while it stays, so do the bytes, and they are not hashed."""


def whole_file(file: SourceFile, split: str, options: ParseOptions) -> InputSplit:
    """All of `file` as one input split."""
    return InputSplit(
        file.uri, file.shown, file.format, file.compression, RecordRange(), split=split, options=options, size=file.size
    )
