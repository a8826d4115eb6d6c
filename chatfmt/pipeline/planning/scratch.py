"""Temporary files for input that cannot be cut where it is: stdin, and compressed files that several shards read."""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from ... import sources
from ...errors import ChatfmtError, InputError, Location
from ...scratch_folder import Scratch, spool
from ...sources import InputSplit, ParseOptions, Source
from ...sources.bytes.compression import reading
from .target import Target


def scratch_for(target: Target) -> Scratch:
    """Return the temporary folder of a run that writes the target: beside it, where there has to be room anyway."""
    parent = target.path.absolute().parent
    return Scratch(parent if target.kind == "folder" or (target.kind == "file" and parent.is_dir()) else None)


def stdin_bytes() -> BinaryIO:
    """Return the stdin of the process; raises InputError if it is closed."""
    if sys.stdin is None or sys.stdin.buffer.closed:
        raise InputError("stdin is closed", hint="name a file, or pipe rows in: zcat x.jsonl.gz | chatfmt convert -")
    return sys.stdin.buffer


def stdin_chunks() -> Iterator[bytes]:
    """Yield the bytes of stdin; raises InputError if they cannot be read."""
    stdin = stdin_bytes()
    with reading(stdin, "-"):
        while chunk := stdin.read(1 << 20):
            yield chunk


def write_stdin(source: Source, scratch: Scratch, limit: int | None) -> Path:
    """Write stdin to a file in `scratch` and return its path; raises InputError if it is empty.

    Raises OutputError if it holds more than `limit` bytes; see `spool`.
    """
    path = scratch.folder / "stdin"
    spool(stdin_chunks(), path, limit)
    if not path.stat().st_size and not source.options.allow_empty:
        raise InputError(
            "the input is empty", code="file.empty", at=Location("-"), hint="use `--allow-empty` if this is intended"
        )
    return path


def from_stdin(source: Source, path: Path, options: ParseOptions) -> Source:
    """Return the file that stdin was written to as a source, shown as `-`."""
    try:
        found = sources.resolve(str(path), options=options)
    except ChatfmtError as error:
        error.at = replace(error.at, file=error.at.file.replace(str(path), "-"))
        named = re.escape(shlex.quote(str(path)))
        error.hint = re.sub(rf": (.*) {named} > .*", r": … | \1 | chatfmt convert -", error.hint)
        raise
    renamed = {split: tuple(replace(file, shown="-") for file in files) for split, files in found.splits.items()}
    return replace(found, shown="-", kind="stdin", splits=renamed)


def read_more_than_once(source: Source, shards: Sequence[Sequence[InputSplit]]) -> bool:
    """Return whether several input splits read a file that can only be read from its start."""
    readers = Counter(split.uri for shard in shards for split in shard)
    return any(readers[file.uri] > 1 and sources.needs_unpacking(file, source.options) for file in source.files)
