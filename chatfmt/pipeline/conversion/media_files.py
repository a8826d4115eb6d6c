"""`--embed-media`: replace the paths of images, videos and audio by the bytes of their files.

Paths are relative to the folder of the source file or to `--media-root`, and must stay inside of it, so that a dataset
from elsewhere cannot collect other files of this machine.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from ...checks.media import paths_of
from ...errors import Location, RowError, raise_first
from ...json_columns import JSON, MEDIUM, media_columns, with_column
from ...sources import InputSplit
from ...turn_columns import lengths_of, rows_of_turns, to_lists
from ...whole_files import is_regular, read_whole

MOST_BYTES = 2**31 - 1
"""Bytes of a file, of which a column of Arrow can hold no more."""
BATCH_BYTES = 32 << 20
"""Bytes of media that are in memory at a time, or those of one row if it has more."""


def with_folder(split: InputSplit, source: str, root: str | None) -> InputSplit:
    """Return the input split with the folder of its media: `root`, or that of the file that SOURCE names or holds.

    None for stdin and files from the network, which have no folder here.
    """
    named = (path for path in (Path(split.shown), Path(source, split.shown)) if path.is_file())
    folder = root if root is not None else next((str(path.parent) for path in named), None)
    return replace(split, folder=folder)


def find_files(batch: pa.RecordBatch, folder: str | None) -> pa.RecordBatch:
    """Return the batch with media as MEDIUM: `path` is the full path of a file to read where there are no bytes.

    Raises RowError `media.file` for media that are not files in the folder.
    """
    errors: dict[int, RowError] = {}
    for name, column in media_columns(batch).items():
        if column.type == pa.list_(JSON):
            raise RowError(
                f"the column `{name}` holds lists of frames", code="media.file", at=Location(row=0),
                hint="--no-embed-media keeps their paths",
            )  # fmt: skip
        found = paths_of(column).to_pylist()
        media = []
        for row, path in zip(rows_of_turns(column).tolist(), found, strict=True):
            try:
                media.append(None if path is None else _medium(path, folder))
            except RowError as error:
                error.at = Location(row=row)
                errors.setdefault(row, error)
        if not errors:
            items = pa.array(media, MEDIUM)
            if column.type == pa.list_(MEDIUM):
                items = pc.coalesce(items, column.flatten())
            batch = with_column(batch, name, to_lists(items, lengths_of(column)))
    raise_first([*errors.values()])
    return batch


def _medium(path: str, folder: str | None) -> dict[str, bytes | str | None]:
    if path.startswith("data:"):
        return {"bytes": _data(path), "path": None}
    name = _path_of(path)
    if name is None:
        raise RowError(f"`{path}` is a URL", hint="download it first, or leave out --embed-media", code="media.file")
    if folder is None:
        hint = "--media-root DIR names the folder; an archive must be unpacked first"
        raise RowError(f"`{name}` is a path, and the source has no folder", hint=hint, code="media.file")
    root = os.path.normpath(Path(folder).absolute())
    full = os.path.normpath(Path(root, name))
    if not Path(full).is_relative_to(root):
        raise RowError(
            f"`{name}` is outside of `{_shown(root)}`",
            hint="--media-root DIR names a folder around it",
            code="media.file",
        )
    if not is_regular(Path(full)):
        hint = "--media-root DIR names the folder, --on-error skip drops such rows"
        raise RowError(f"there is no file `{name}` in `{_shown(root)}`", hint=hint, code="media.file")
    return {"bytes": None, "path": full}


def has_file(path: str, folder: str | None) -> bool:
    """Return whether a medium that is a path has its file; True for a URL, and for a path below an unknown folder."""
    name = None if path.startswith("data:") else _path_of(path)
    return name is None or (folder is None and not Path(name).is_absolute()) or Path(folder or "", name).is_file()


def _path_of(text: str) -> str | None:
    """Return the path in a text or in a `file:` URL; None for any other URL."""
    url = urlsplit(text)
    if url.scheme == "file":
        return unquote(url.path)
    return None if "://" in text else text


def _shown(folder: str) -> str:
    """Return the folder as seen from the current one, if it is inside of it."""
    here = Path.cwd()
    return str(Path(folder).relative_to(here)) if Path(folder).is_relative_to(here) else folder


def _data(uri: str) -> bytes:
    head, _, data = uri.partition(",")
    try:
        return base64.b64decode(data, validate=True) if head.endswith(";base64") else unquote(data).encode()
    except ValueError as error:
        raise RowError("the data URI is not base64", code="media.file") from error


def with_bytes(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a batch from `find_files` with the bytes of the files, few enough at a time for memory."""
    sizes = [0] * len(batch)
    for column in media_columns(batch).values():
        for row, path in zip(rows_of_turns(column).tolist(), paths_of(column).to_pylist(), strict=True):
            sizes[row] += Path(path).stat().st_size if path is not None else 0
    start = total = 0
    for row, size in enumerate(sizes):
        if total and total + size > BATCH_BYTES:
            yield _filled(batch.slice(start, row - start))
            start, total = row, 0
        total += size
    yield _filled(batch.slice(start))


def _filled(batch: pa.RecordBatch) -> pa.RecordBatch:
    for name, column in media_columns(batch).items():
        read = [
            None if path is None else {"bytes": read_whole(Path(path), MOST_BYTES), "path": Path(path).name}
            for path in paths_of(column).to_pylist()
        ]
        items = pc.coalesce(pa.array(read, MEDIUM), column.flatten())
        batch = with_column(batch, name, to_lists(items, lengths_of(column)))
    return batch
