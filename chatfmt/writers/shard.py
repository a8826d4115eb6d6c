"""Files that appear under their name complete or not at all: shards and rejects."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from ..errors import OutputError, UnknownName
from ..manifest import Reject, reject_lines
from ..scratch_folder import remove_abandoned_files
from . import durable
from .encoders import FORMATS
from .parquet.check import find_damage
from .parts import PARTS


class AtomicFile:
    """A sink whose bytes appear at `path` at the end of the `with` block, or are removed if the block raises.

    Counts the data, `bytes`, and has its `sha256`. The name of the unfinished file, `part`, begins with a dot; it is
    locked as long as the process lives, so that `remove_abandoned_parts` knows those of the dead.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.bytes = path, 0
        self.part = _new_part(path)
        self._file, self._hash, self._discarded = durable.OutputFile(self.part, path), hashlib.sha256(), False

    def write(self, data: bytes | memoryview, /) -> int:
        if self._discarded:  # encoders may still flush when they are garbage-collected
            return len(data)
        size = self._file.write(data)
        self._hash.update(data)
        self.bytes += size
        return size

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def sync(self) -> None:
        """Sync the file to the disk and close it, under its unfinished name."""
        self._file.sync()
        self._file.close()

    def publish(self) -> None:
        """Give the synced file its name."""
        if os.name == "nt":  # which renames no file that is open
            self._file.unlock()
        durable.rename(self.part, self.path)
        self._file.unlock()

    def discard(self) -> None:
        """Remove the unfinished file; later writes are ignored."""
        self._discarded = True
        try:
            self._file.close()
        finally:
            self._file.unlock()
            durable.discard(self.part)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self.sync()
                self.publish()
                return
        except BaseException:
            self.discard()
            raise
        self.discard()


def _part_stem(path: Path) -> str:
    return f".{path.name[:200]}."


def _new_part(path: Path) -> Path:
    return path.with_name(f"{_part_stem(path)}{secrets.token_hex(4)}.part")


def link(old: Path, new: Path) -> bool:
    """Give a synced file a second name, replacing the file of that name; returns False where it cannot have one."""
    part = _new_part(new)
    if not durable.link(old, part):
        return False
    try:
        durable.rename(part, new)
    finally:
        durable.discard(part)  # it stays where `new` was the same file before
    return True


def remove_abandoned_parts(path: Path) -> None:
    """Remove the unfinished files of `path` that dead processes have left."""
    remove_abandoned_files(path.parent, re.compile(rf"{re.escape(_part_stem(path))}[0-9a-f]{{8}}\.part"))


class ShardWriter:
    """Write batches to `path` in a format of FORMATS or PARTS.

    After the `with` block: `rows`, `bytes`, `sha256`, and the size of the rows in Arrow, `arrow_bytes`.

    At the end of a block that did not raise, the file is synced, read back (Parquet: every page against its checksum)
    and renamed to `path`. Its folder must exist.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        schema: pa.Schema,
        compression: str | None = None,
        *,
        explicit_nulls: bool = False,
    ) -> None:
        encoders = {**FORMATS, **PARTS}
        if format not in encoders:
            raise UnknownName.of("format", format, FORMATS)
        self._format, self._file = format, AtomicFile(path)
        self.rows = self.arrow_bytes = 0
        try:
            self._encoder = encoders[format](self._file, schema, compression, explicit_nulls=explicit_nulls)
        except BaseException:
            self._file.discard()
            raise

    @property
    def bytes(self) -> int:
        return self._file.bytes

    @property
    def sha256(self) -> str:
        return self._file.sha256

    def write(self, batch: pa.RecordBatch) -> None:
        self._encoder.write(batch)
        self.rows += len(batch)
        self.arrow_bytes += batch.nbytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._file.discard()
            return
        try:
            self._finish()
        except BaseException:
            self._file.discard()
            raise

    def _finish(self) -> None:
        self._encoder.close()
        self._file.sync()
        if self._format == "parquet":
            check_parquet(self._file, self.rows)
        self._file.publish()


def check_parquet(file: AtomicFile, rows: int) -> None:
    """Read an unfinished Parquet file back; raises OutputError if its bytes or its number of rows are wrong."""
    if damage := find_damage(file.part, rows):
        raise OutputError(
            f"`{file.path.name}` was damaged while it was written: {damage}",
            hint="check the disk and the memory, then run again",
            code="output.readback",
        )


SOME = 256
"""Rejects that are encoded at a time: what fits a cache is encoded faster."""


class RejectWriter:
    """Write the rejects of one shard to `path`, one per line; without a reject there is no file.

    After the `with` block: `bytes`, `sha256` (empty without a file).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: AtomicFile | None = None

    @property
    def bytes(self) -> int:
        return self._file.bytes if self._file else 0

    @property
    def sha256(self) -> str:
        return self._file.sha256 if self._file else ""

    def write(self, rejects: Iterable[Reject]) -> None:
        waiting = iter(rejects)
        while some := list(islice(waiting, SOME)):
            self._file = self._file or AtomicFile(self._path)
            self._file.write(reject_lines(some))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file:
            self._file.__exit__(kind, error, at)
