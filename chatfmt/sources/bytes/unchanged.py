"""Tell whether a file is still the one that was planned, on any machine, and read it only if it looks different."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from ...errors import InputError, Location, RowError
from ...stores import is_remote, size_and_version
from ..model import InputSplit
from .compression import content_hash, shown_uri
from .remote_cache import url_of_kept


def file_identity(uri: str) -> tuple[int, ...] | None:
    """Return numbers that do not stay the same when the content of a file changes, its size in bytes first.

    Of a local file, the times when content and metadata changed (ns): machines that share a disk agree on them, and
    copies of a file differ. Of a remote file, the version that its store reports. None if there is no such file, or
    if its store reports no version: its content is then compared when a process first reads it.
    """
    if is_remote(uri):
        return size_and_version(url_of_kept(uri))
    try:
        status = Path(uri).stat()
    except OSError:  # the reader raises the error to show
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def has_content(uri: str, content: str, identity: tuple[int, ...] | None) -> bool:
    """Return whether a file has the content with this hash, as it had with this identity. Raises InputError."""
    return _has_content(uri, content, identity, file_identity(uri))


def _has_content(uri: str, content: str, identity: tuple[int, ...] | None, found: tuple[int, ...] | None) -> bool:
    return (found is not None and found == identity) or _hash(uri, found) == content


@lru_cache(maxsize=1024)
def _hash(uri: str, identity: tuple[int, ...] | None) -> str:
    return content_hash(uri)


def while_unchanged(split: InputSplit, batches: Callable[[], Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Yield the batches; raises InputError if the file is not as planned, or changes while it is read."""
    before = file_identity(split.uri)
    if before is not None and split.size not in (None, before[0]):
        raise changed_error(split.shown)
    if split.content is not None and not _has_content(split.uri, split.content, split.identity, before):
        raise InputError(
            "another file than the one that was planned", code="file.changed", at=Location(split.shown),
            hint=f"`{shown_uri(split.uri)}` has to be the same file during the whole run, and on every machine",
        )  # fmt: skip
    try:
        yield from batches()
    except (InputError, RowError):
        if _has_changed(split, before):
            raise changed_error(split.shown) from None
        raise
    if _has_changed(split, before):
        raise changed_error(split.shown)


def _has_changed(split: InputSplit, before: tuple[int, ...] | None) -> bool:
    """Return whether a file has changed since it had an identity; one that was only touched or linked has not."""
    found = file_identity(split.uri)
    if found == before or (found is None and is_remote(split.uri)):  # a store may fail to answer
        return False
    try:
        return split.content is None or not _has_content(split.uri, split.content, before, found)
    except InputError:
        return True


def changed_error(shown: str) -> InputError:
    hint = "wait until it is no longer written to, or convert a copy"
    return InputError("the file changed while it was read", code="file.changed", at=Location(shown), hint=hint)
