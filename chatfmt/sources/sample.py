"""Sample the first records of a source, and fingerprint its files."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError, Location, RowError
from ..json_columns import is_turns
from ..schema import FILE
from ..turn_columns import rows_of_turns
from .bytes.compression import content_hash
from .bytes.text import content
from .bytes.unchanged import changed_error, file_identity
from .discovery.split_slices import select_slices
from .formats.schemas import column_types
from .json.record_batch import explain_encoding
from .model import ParseOptions, Source, SourceFile, whole_file
from .read import read

_FILES = 4
_BATCH = 256
_BYTES = 16 << 20  # per file
_CHUNK = 1 << 20  # of JSON Lines, which mostly has all rows of a file that are wanted


def sample(
    source: Source,
    split: str | None = None,
    rows: int = 1000,
    bad: list[RowError] | None = None,
    columns: Sequence[str] | None = None,
) -> list[pa.RecordBatch]:
    """Source batches with the first records of the first file and of up to three others: at most `rows`, or 64 MiB.

    Bad records are skipped and their errors added to `bad`; the conversion reports them. `columns` are those to read of
    Parquet and Arrow files. Raises RowError if all records are bad, InputError if there are none.
    """
    names = dict.fromkeys(part.split for part in select_slices(split, list(source.splits)))
    files = [(file, name) for name in names for file in source.splits[name]]
    some = files[:1] + files[1 :: max(1, len(files) // (_FILES - 1))][: _FILES - 1]
    bad = [] if bad is None else bad
    batches: list[pa.RecordBatch] = []
    for number, (file, name) in enumerate(some):
        left = rows - sum(batch.num_rows for batch in batches)
        share = -(-left // (len(some) - number))
        batches += _first(source, file, name, share, bad, columns)
    if not batches and bad:
        bad[0].hint = bad[0].hint or "mend this row: none of the first rows can be read"
        raise bad[0]
    if not batches and not source.options.allow_empty:
        raise no_records_error(source.shown)
    return batches


def column_problems(source: Source, split: str | None, rows: int) -> dict[str, str]:
    """Return what keeps each column of Parquet and Arrow files from being sampled by itself; empty if nothing does."""
    found = dict[str, str]()
    for name in column_types(source.files[0]) if source.files else ():
        try:
            sample(source, split, rows, columns=[name])
            found[name] = ""
        except InputError as error:
            found[name] = error.message
    return found


def late_rows(source: Source, split: str | None, names: Collection[str]) -> list[pa.RecordBatch]:
    """Return the first row that has each of the named columns, or keys of turns (`[].key`), as batches of one row.

    It reads on after the sample, and only files in whose text a name occurs. Unknown names have none.
    """
    missing, found = set(names), list[pa.RecordBatch]()
    for part in select_slices(split, list(source.splits)) if names else ():
        for file in source.splits[part.split]:
            if not missing or not _mentions(file, source.options, missing):
                continue
            for batch in read(whole_file(file, part.split, source.options), on_bad=lambda error, raw: None):
                for name, row in [(name, _row_with(batch, name)) for name in sorted(missing)]:
                    if row is not None:
                        missing.discard(name)
                        found.append(batch.slice(row, 1))
                if not missing:
                    return found
    return found


def _row_with(batch: pa.RecordBatch, name: str) -> int | None:
    """Return the first row with a value in a column (0 if none has one), or with such a key of a turn; else None."""
    if name in batch.schema.names:
        return max(int(pc.index(batch.column(name).is_valid(), True).as_py()), 0)
    key = name.removeprefix("[].")
    for column in batch.columns if key != name else ():
        if is_turns(column.type) and key in column.type.value_type.names:
            turn = pc.index(column.flatten().field(key).is_valid(), True).as_py()
            return None if turn < 0 else int(rows_of_turns(column)[turn])
    return None


def _mentions(file: SourceFile, options: ParseOptions, names: Collection[str]) -> bool:
    """Return whether a name may be a column of the file: in JSON, whether its text is there as a key is written."""
    if file.format not in ("jsonl", "json"):
        return True
    keys = [
        json.dumps(name.removeprefix("[]."), ensure_ascii=ascii).encode() for name in names for ascii in (True, False)
    ]
    keep, tail = max(map(len, keys)), b""
    for chunk in content(file, options):
        text = tail + chunk
        if any(key in text for key in keys):
            return True
        tail = text[-keep:]
    return False


def no_records_error(shown: str, split: str | None = None) -> InputError:
    """The error for a source without any records, good or bad, or without any in the requested slice."""
    meant = "use `--allow-empty` if this is intended"
    if split is None or "[" not in split:
        return InputError("no records", code="file.empty", at=Location(shown), hint=meant)
    hint = f"choose other rows with `--skip`, `--limit` or `--split`, or {meant}"
    return InputError(f"no rows in `{split}`", code="file.empty", at=Location(shown), hint=hint)


def _first(
    source: Source, file: SourceFile, name: str, rows: int, bad: list[RowError], columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    size = min(rows, _BATCH)
    left = _BYTES

    def add(error: RowError, raw: bytes) -> None:
        if not bad:
            explain_encoding(error, raw)
        bad.append(error)

    whole = whole_file(file, name, source.options)
    for batch in read(whole, columns=columns, on_bad=add, batch_rows=size, line_bytes=_CHUNK):
        yield batch.slice(0, rows).replace_schema_metadata({**(batch.schema.metadata or {}), FILE: file.shown})
        rows, left = rows - batch.num_rows, left - batch.nbytes
        if rows <= 0 or left <= 0:
            return


def fingerprint(files: Sequence[SourceFile]) -> list[tuple[str, int, str]]:
    """Name, size in bytes and XXH3-128 (hex, of the bytes on disk) of each file; hashes several at once.

    Raises InputError for a file that has changed since it was found.
    """
    digests = list(map(_hash, files)) if len(files) < 2 else _hash_in_threads(files)
    return [(file.shown, file.size, digest) for file, digest in zip(files, digests, strict=True)]


def _hash(file: SourceFile) -> str:
    digest, found = content_hash(file.uri), file_identity(file.uri)
    if found is not None and file.identity not in (None, found):
        raise changed_error(file.shown)
    return digest


HASHED_AT_ONCE = 4
"""Files hashed at once: two cores are twice as fast, and disks are faster with several requests in flight."""


def _hash_in_threads(files: Sequence[SourceFile]) -> list[str]:
    from concurrent.futures import ThreadPoolExecutor

    try:
        with ThreadPoolExecutor(HASHED_AT_ONCE, initializer=_give_way) as hashers:
            return list(hashers.map(_hash, files))
    except RuntimeError:  # no thread can start
        return list(map(_hash, files))


def _give_way() -> None:
    """Let other processes go first, the one that detects the dialect among them; a thread of Linux can (nice(2))."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
