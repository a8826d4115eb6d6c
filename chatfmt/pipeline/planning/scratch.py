"""Input that must lie on disk before it can be cut: what came through a pipe, and compressed files of many shards."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from msgspec.structs import replace

from ... import sources
from ...errors import ChatfmtError, InputError, Location
from ...sources import InputSplit, Source


class Scratch:
    """A temporary folder for the length of a run, made when it is first needed and removed at the end."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    @property
    def made(self) -> bool:
        """Whether anything was put there."""
        return self._folder is not None and any(self._folder.iterdir())

    @property
    def folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="chatfmt-"))
        return self._folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def stdin_bytes() -> BinaryIO:
    """The process's stdin; raises InputError where it is closed or a terminal that nobody types JSON into."""
    if sys.stdin is None or sys.stdin.buffer.closed:
        raise InputError("stdin is closed", hint="name a file, or pipe rows in: zcat x.jsonl.gz | chatfmt convert -")
    return sys.stdin.buffer


def from_stdin(source: Source, scratch: Scratch) -> Source:
    """What stdin holds as a file, shown as `-`."""
    path = scratch.folder / "stdin"
    with path.open("wb") as file:
        shutil.copyfileobj(stdin_bytes(), file, 1 << 20)
    if not path.stat().st_size and not source.options.allow_empty:
        raise InputError("nothing came in", code="file.empty", at=Location("-"))
    with _shown_as(str(path), "-"):
        found = sources.resolve(str(path), options=source.options)
    renamed = {split: tuple(replace(file, shown="-") for file in files) for split, files in found.splits.items()}
    return replace(found, shown="-", kind="stdin", splits=renamed)


@contextmanager
def _shown_as(path: str, shown: str) -> Iterator[None]:
    """Errors raised inside name a file as the user did."""
    try:
        yield
    except ChatfmtError as error:
        error.at = replace(error.at, file=error.at.file.replace(path, shown))
        raise


def read_more_than_once(source: Source, shards: Sequence[Sequence[InputSplit]]) -> bool:
    """Whether a file that can only be read from its beginning lies in several pieces."""
    pieces = Counter(split.uri for shard in shards for split in shard)
    files = [file for group in source.splits.values() for file in group]
    return any(pieces[file.uri] > 1 and sources.needs_spool(file, source.options) for file in files)
