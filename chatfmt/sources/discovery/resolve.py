"""Resolve SOURCE, as the user typed it, to a `Source`: its files by split."""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from msgspec.structs import replace

from ...errors import ChatfmtError, InputError, abridged, nearest
from ...scratch_folder import explained
from ...stores import is_remote
from ...whole_files import is_regular
from ..bytes.compression import SUFFIXES
from ..bytes.unchanged import file_identity
from ..model import DEFAULTS, ParseOptions, Source, SourceFile
from . import archives
from .data_files import FoundFiles, find_splits, globbing
from .hub import resolve_hub
from .hub_errors import HubRequest
from .local import field_notes, local_file
from .remote import found_files, resolve_remote
from .sniff import FORMAT_BY_SUFFIX
from .split_slices import select_slices

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_URL = re.compile(r"hf://datasets/(?P<id>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/?")
_WILD = re.compile(r"[*?\[]")
SHOWN = 5
"""The most names that a hint lists."""


def resolve(
    source: str, *, name: str | None = None, split: str | None = None, revision: str | None = None,
    data_files: Sequence[str] = (), data_dir: str | None = None, options: ParseOptions = DEFAULTS,
    unpack_to: Path | None = None,
) -> Source:  # fmt: skip
    """Find the files of a file, folder, glob, URL, Hub id or `-`; an existing path is always taken as a path.

    An archive or a spreadsheet is unpacked to a new folder in `unpack_to`, if there is one, and what is read of remote
    files is kept there. Of a Hub dataset only the files of the requested split are downloaded. Raises InputError if it
    does not exist or cannot be read, UsageError or UnknownName for an unknown subset or split.
    """
    if not source:
        raise InputError("no such file ``", code="file.missing", hint="name a file, a folder or a dataset")
    if source == "-":
        return Source("-", "stdin", {"train": ()}, options=options)
    if not is_remote(source) and not _exists(source):
        if _WILD.search(source):
            return _from_files(source, _globbed(source), options)
        if looks_like_hub_id(source):
            return _from_hub(HubRequest(source, name, split, revision, tuple(data_files), data_dir), options)
        raise InputError(f"no such file `{source}`", code="file.missing", hint=_hint(source))
    if is_remote(source):
        if url := _HUB_URL.fullmatch(source):
            pinned = revision or url["revision"]
            return resolve_hub(HubRequest(url["id"], name, split, pinned, tuple(data_files), data_dir), options)
        return resolve_remote(source, options, split, unpack_to)
    path = _path(source)
    if path.is_dir():
        found = find_splits(path, name=name, data_files=data_files, data_dir=data_dir)
        return _from_folder(source, path, found, split, options)
    if unpack_to is not None and is_regular(path) and (unpack := archives.unpacker(path)):
        folder = _new_folder(unpack_to)
        unpacked = unpack(path, folder, name)
        name = None if unpacked.sheet else name
        with _named(folder, source):
            members = find_splits(folder, name=name, data_files=data_files, data_dir=data_dir)
        inside = _from_folder(source, folder, members, split, options)
        return _with_sheet(replace(inside, notes=(*unpacked.notes, *inside.notes)), path, unpacked.sheet)
    return _from_files(source, [path], options)


def named_files(
    source: str, folder: Path, *, name: str | None = None, data_files: Sequence[str] = (), data_dir: str | None = None
) -> dict[str, list[str]]:
    """Return the files that a folder, glob or URL names now, by split, without opening them; none of other sources.

    A relative path is one in `folder`. Raises what `resolve` does.
    """
    if is_remote(source):
        return {} if _HUB_URL.fullmatch(source) else found_files(source)
    path = folder / _path(source)
    if path.is_dir():
        found = find_splits(path, name=name, data_files=data_files, data_dir=data_dir).splits
    else:
        found = {"train": _globbed(os.path.join(glob.escape(str(folder)), _path(source)))} if not path.exists() else {}  # noqa: PTH118
    return {split: list(map(str, paths)) for split, paths in found.items()}


def _new_folder(parent: Path) -> Path:
    with explained(parent):
        return Path(tempfile.mkdtemp(dir=parent, prefix="unpacked-"))


@contextmanager
def _named(folder: Path, source: str) -> Iterator[None]:
    """Name the archive in errors, instead of the folder that it is unpacked to."""
    try:
        yield
    except ChatfmtError as error:
        error.message = error.message.replace(str(folder), source)
        raise


def _with_sheet(source: Source, path: Path, sheet: str | None) -> Source:
    """Return the source of an unpacked file, which its manifest names; a sheet is shown by the name of its file."""
    original = SourceFile(str(path), str(path), "csv", None, path.stat().st_size, file_identity(str(path)))
    if sheet is None:
        return replace(source, originals=(original,))
    shown = {
        split: tuple(replace(file, shown=f"{path}#{sheet}") for file in files) for split, files in source.splits.items()
    }
    return replace(source, splits=shown, originals=(original,), notes=(*source.notes, f"the sheet `{sheet}` is read"))


def _path(source: str) -> Path:
    """The path with `~` expanded, unless a file has that name."""
    path = Path(source)
    return path.expanduser() if source.startswith("~") and not path.exists() else path


def _exists(path: str) -> bool:
    try:
        return _path(path).exists()
    except (OSError, RuntimeError, ValueError):  # the name is too long, or `~nobody`
        return False


def looks_like_hub_id(source: str) -> bool:
    """Return whether the text may be a dataset id: `name` or `owner/name` without the suffix of a data file."""
    suffix = Path(source).suffix.lower()
    return (
        bool(_ID.fullmatch(source))
        and suffix not in FORMAT_BY_SUFFIX
        and suffix not in SUFFIXES
        and suffix not in (".txt", ".zip", ".yaml", ".yml")
    )


def _from_hub(request: HubRequest, options: ParseOptions) -> Source:
    """Return a dataset of the Hub; the hint for one that cannot be had names a local file that is called alike."""
    try:
        return resolve_hub(request, options)
    except InputError as error:
        if error.code in ("hub.missing", "hub.unreachable"):
            error.hint = _near(request.source) or error.hint
        raise


def _hint(source: str) -> str:
    parent = _path(source).parent
    if closed := _closed(parent):
        return closed
    if not _exists(str(parent)):
        return f"the folder `{parent}` does not exist either"
    return _near(source)


def _closed(folder: Path) -> str:
    """Return a hint if the folder, or the nearest one above it that can be seen, may not be read; else nothing."""
    seen = next((each for each in (folder, *folder.parents) if os.path.isdir(each)), folder)  # noqa: PTH112
    return "" if os.access(seen, os.R_OK | os.X_OK) else f"`{seen}` may not be read: check who may with `ls -ld {seen}`"


def _near(source: str) -> str:
    """Return a hint that names the file beside a path whose name is like its own; empty if there is none."""
    path = Path(source)
    close = nearest(path.name, _names_in(_path(source).parent), max(1, len(path.stem) // 3))
    return f"did you mean `{path.with_name(close[0])}`?" if close else ""


def _names_in(folder: Path) -> list[str]:
    """The names in a folder, as far as it can be read; dangling links are skipped."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.exists())
    except OSError:
        return []


def _globbed(pattern: str) -> list[Path]:
    with globbing(str(_path(pattern))):
        found = sorted(Path(path) for path in glob.glob(str(_path(pattern)), recursive=True))  # noqa: PTH207
    return [path for path in found if not path.is_dir() and path.name[0] not in "._"]


def _from_files(source: str, paths: Sequence[Path], options: ParseOptions) -> Source:
    if not paths:
        raise InputError(f"no file matches `{source}`", code="file.missing", hint=_glob_hint(source))
    files = tuple(local_file(path, options) for path in paths)
    return Source(source, "files", {"train": files}, notes=tuple(field_notes(files[0], options)), options=options)


def _glob_hint(pattern: str) -> str:
    """List the names in the folder before the first wildcard of a glob without matches."""
    path = _path(pattern)
    parts = list(takewhile(lambda part: not _WILD.search(part), path.parts[:-1]))
    folder = Path(*parts)
    if closed := _closed(folder):
        return closed
    if not folder.is_dir():
        return f"the folder `{folder}` does not exist"
    names = [name for name in _names_in(folder) if name[0] not in "._"]
    if not names:
        return f"`{folder.resolve()}` is empty"
    return f"`{folder}` has {abridged([f'`{name}`' for name in names], SHOWN)}"


def _from_folder(source: str, root: Path, found: FoundFiles, split: str | None, options: ParseOptions) -> Source:
    wanted = dict.fromkeys(part.split for part in select_slices(split, list(found.splits))) if split else found.splits
    files = {
        key: tuple(local_file(path, options, path.relative_to(root).as_posix()) for path in found.splits[key])
        for key in wanted
    }
    return Source(
        source,
        "files",
        files,
        subset=found.subset,
        licence=found.licence,
        languages=found.languages,
        notes=tuple(_skipped_files(source, found)),
        options=options,
    )


def _skipped_files(source: str, found: FoundFiles) -> Iterator[str]:
    """Yield notes on data files that are in no split, and on files in other formats."""
    for names, noun, why in (
        (found.unread, "data file", "without a split ({}); name them with --data-files"),
        (found.others, "file", "in other formats ({}); convert each by itself"),
    ):
        if names:
            count, some = (f"1 {noun}", "") if len(names) == 1 else (f"{len(names)} {noun}s", " …")
            yield f"skipped {count} of `{source}` {why.format(f'`{names[0]}`{some}')}"
