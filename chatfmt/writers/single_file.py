"""A single output file, staged beside its path until it is complete, and streams, which cannot be staged.

```
.NAME.chatfmt/     the unfinished run (see `staging`); removed once NAME is complete
NAME               the shards, joined in order: nothing, the old file, or all of the new one
```
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from ..errors import OutputError, ReaderGone, UsageError
from ..manifest import Shard
from . import durable, staging
from .encoders import COMPRESSIONS, PARQUET_COMPRESSIONS
from .folder import copy
from .parquet_join import join_parquet
from .shard import AtomicFile, check_parquet

T = TypeVar("T")
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
"""The format for each suffix of an output file."""


def format_from_name(name: str) -> tuple[str, str | None] | None:
    """Return the format and compression that a file name asks for; None for the name of a folder.

    Raises UsageError for a compressed Parquet name (`x.parquet.gz`): Parquet compresses inside.
    """
    path = Path(name)
    compression = path.suffix[1:] if path.suffix[1:] in COMPRESSIONS else None
    inner = path.with_suffix("").suffix if compression else path.suffix
    format = SUFFIXES.get(inner)
    if format == "parquet" and compression:
        raise UsageError(f"`{name}`: Parquet is compressed internally", hint=f"--out {path.stem} --compression zstd")
    return (format, compression) if format else None


def file_ending(format: str, compression: str | None = None) -> str:
    """Return the suffix for files of a format: `.parquet`, `.jsonl`, `.jsonl.zst`."""
    return f".{format}.{compression}" if format == "jsonl" and compression in COMPRESSIONS else f".{format}"


def check_compression(format: str, compression: str | None) -> None:
    """Raise UsageError for a compression that the format does not support."""
    known = PARQUET_COMPRESSIONS if format == "parquet" else (*COMPRESSIONS, "none")
    if compression is not None and compression not in known:
        raise UsageError(
            f"`{format}` does not support the compression `{compression}`", hint=f"one of: {', '.join(known)}"
        )


def is_stream(path: Path) -> bool:
    """Return whether a path is a device or a pipe (`/dev/stdout`, `/dev/null`, a FIFO), written to without staging."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


class SingleFile:
    """The single output file of a run. Workers use `state` as with an OutputFolder; `commit` joins their shards.

    Its shards have names like `data/00017`: only their order counts.
    """

    def __init__(self, path: Path, fingerprint: str, lock: staging.Lock) -> None:
        self.path, self.fingerprint, self._lock = path, fingerprint, lock
        self.state = staging_folder(path)

    @classmethod
    def open(cls, path: Path, fingerprint: str, *, resume: bool = False, overwrite: bool = False) -> SingleFile:
        """Lock and prepare the staging folder; an old file stays until the commit. Symbolic links are followed.

        Raises OutputError if the file exists (without `overwrite`), or if an unfinished run is in the way: without
        `resume` or `overwrite`, if it is a different run, or if it is in progress.
        """
        shown = path.resolve() if path.is_symlink() else path
        path = path.resolve()
        state = staging_folder(path)
        _check_file(shown, state, resume=resume, overwrite=overwrite)
        durable.make_folder(state)
        lock = staging.Lock(state)
        try:
            _prepare(shown, state, fingerprint, resume=resume, overwrite=overwrite)
        except BaseException:
            if staging.run_fingerprint(state) is None:
                durable.remove_folder(state)
            lock.release()
            raise
        return cls(path, fingerprint, lock)

    def finished(self) -> dict[str, Shard]:
        """Return the shards that an earlier attempt finished, by name."""
        return staging.finished_shards(self.state, self.fingerprint)

    def commit(
        self, shards: Sequence[Shard], format: str, compression: str | None = None, rejects: Path | None = None
    ) -> Shard:
        """Join the shards in order and return the file as one Shard; write rejects to `rejects`, if given.

        JSON Lines are concatenated, compressed ones too (RFC 1952 and 8878 allow it); for Parquet see `join_parquet`.
        """
        parts = [staging.staged_path(self.state, shard.name) for shard in shards]
        if rejects is not None:
            self._join_rejects(shards, rejects)
        with AtomicFile(self.path) as file:
            if format == "parquet":
                join_parquet(parts, file)
                check_parquet(file, sum(shard.rows for shard in shards))
            else:
                for part in parts:
                    copy(part, file)
        staging.clear(self.state)
        self._clean_up()
        return Shard(self.path.name, rows=sum(shard.rows for shard in shards), bytes=file.bytes, sha256=file.sha256)

    def _join_rejects(self, shards: Sequence[Shard], path: Path) -> None:
        with AtomicFile(path) as file:
            for shard in shards:
                if shard.reject_sha256:
                    copy(staging.rejects_path(self.state, shard.name), file)

    def _clean_up(self) -> None:
        durable.remove_folder(self.state)
        durable.sync_folder(self.path.parent)

    def close(self) -> None:
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None and not staging.is_worth_resuming(self.state):
            self._clean_up()
        self.close()


def staging_folder(path: Path) -> Path:
    """Return the state folder of the run of a single output file."""
    return path.with_name(f".{path.name[:200]}.chatfmt")


def _check_file(path: Path, state: Path, *, resume: bool, overwrite: bool) -> None:
    if path.is_dir():
        raise OutputError(f"`{path}` is a folder", hint="choose another name with `--out`", code="output.exists")
    if not path.parent.is_dir():
        raise OutputError(
            f"the folder `{path.parent}` does not exist", hint=f"mkdir -p {path.parent}", code="output.enoent"
        )
    if path.exists() and not overwrite and not (resume and state.exists()):
        raise OutputError(
            f"`{path}` already exists",
            hint="replace it with `--overwrite`, or choose another name with `--out`",
            code="output.exists",
        )


def _prepare(path: Path, state: Path, fingerprint: str, *, resume: bool, overwrite: bool) -> None:
    run = staging.run_fingerprint(state)
    if run is not None and not (resume or overwrite):
        raise OutputError(
            f"a conversion to `{path}` was interrupted",
            hint="continue it with `--resume`, or start again with `--overwrite`",
            code="output.exists",
        )
    if run is None or overwrite:
        staging.clear(state)
        staging.prepare_state(state, fingerprint)
    elif run != fingerprint:
        raise OutputError(
            f"the interrupted conversion to `{path}` had different input, options or versions, so it cannot be resumed",
            hint="start again with `--overwrite`, or choose another name with `--out`",
            code="output.fingerprint",
        )


class Stream:
    """A sink over stdout, a device or a pipe; after an error part of the output has been written.

    Raises ReaderGone if the reader of the pipe is gone, OutputError for a closed or full stream.
    """

    def __init__(self, stream: BinaryIO | None, name: str = "stdout") -> None:
        if stream is None:
            raise _closed(name)
        self._stream, self._name, self.bytes = stream, name, 0

    @classmethod
    def stdout(cls) -> Stream:
        """Return the stream of this process's stdout."""
        return cls(sys.stdout.buffer if sys.stdout is not None else None)

    def write(self, data: bytes | memoryview, /) -> int:
        left = memoryview(data).cast("B")
        while left:  # unbuffered (PYTHONUNBUFFERED), a write may be partial
            left = left[self._call(lambda: self._stream.write(left)) or 0 :]  # noqa: B023
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self._call(self._stream.flush)

    def _call(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except BrokenPipeError:
            self._silence()
            raise ReaderGone from None
        except ValueError:  # I/O operation on closed file
            raise _closed(self._name) from None
        except OSError as error:
            self._silence()
            if error.errno == errno.EBADF:
                raise _closed(self._name) from None
            with durable.explain_errors(self._name):
                raise

    def _silence(self) -> None:
        """Redirect the descriptor to the null device, so that the flush at exit does not fail and print an error."""
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)
        except OSError:
            return


def _closed(name: str) -> OutputError:
    return OutputError(f"{name} is closed", hint="name a file or a folder with `--out`", code="output.closed")
