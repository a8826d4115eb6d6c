"""A single output file, staged beside its path until it is complete.

```
.NAME.chatfmt/     the unfinished run (see `staging`); removed once NAME is complete
NAME               the shards, joined in order: nothing, the old file, or all of the new one
```
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import OutputError
from ..manifest import Shard
from . import durable, staging
from .folder import copy
from .parquet.join import join_parquet
from .shard import AtomicFile, check_parquet, remove_abandoned_parts


class SingleFile:
    """The single output file of a run. Workers use `state` as with an OutputFolder; `commit` joins their shards.

    Its shards have names like `data/00017`: only their order counts.
    """

    def __init__(self, path: Path, lock: staging.Lock) -> None:
        self.path, self.state, self._lock = path, staging_folder(path), lock

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
        try:
            lock = staging.Lock(state)
        except BaseException:
            durable.remove_if_empty(state)
            raise
        with staging.released_on_error(lock, state, lambda: durable.remove_folder(state)):
            remove_abandoned_parts(path)
            _prepare(shown, state, fingerprint, resume=resume, overwrite=overwrite)
        return cls(path, lock)

    def commit(
        self, shards: Sequence[Shard], format: str, compression: str | None = None,
        publish: Callable[[], None] | None = None,
    ) -> Shard:  # fmt: skip
        """Join the shards in order and return the file as one Shard.

        `publish` is called when the file is complete; should it fail, the shards are still there for the next run.
        JSON Lines are concatenated, compressed ones too (RFC 1952 and 8878 allow it); for Parquet see `join_parquet`.
        """
        self._lock.make_room()
        parts = [staging.staged_path(self.state, shard.name) for shard in shards]
        with AtomicFile(self.path) as file:
            if format == "parquet":
                join_parquet(parts, file)
                check_parquet(file, sum(shard.rows for shard in shards))
            else:
                for part in parts:
                    copy(part, file)
        if publish is not None:
            publish()
        staging.clear(self.state)
        self._clean_up()
        return Shard(self.path.name, rows=sum(shard.rows for shard in shards), bytes=file.bytes, sha256=file.sha256)

    def _clean_up(self) -> None:
        durable.remove_folder(self.state)
        durable.sync_folder(self.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock.released():
            if kind is not None and not staging.is_worth_resuming(self.state, error):
                self._clean_up()


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
    if run is None or overwrite:
        staging.clear(state)
    elif run != fingerprint:
        raise OutputError(
            f"the interrupted conversion to `{path}` had different input, options or versions, so it cannot be resumed",
            hint="start again with `--overwrite`, or choose another name with `--out`",
            code="output.fingerprint",
        )
    elif not resume:
        raise OutputError(
            f"a conversion to `{path}` was interrupted",
            hint="continue it with `--resume`, or start again with `--overwrite`",
            code="output.exists",
        )
    staging.prepare_state(state, fingerprint)
