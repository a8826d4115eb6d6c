"""Resolve URLs that fsspec supports (`s3://`, `https://`, …) to remote files, which are read in place."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ...errors import InputError
from ...manifest import MANIFEST, UNFINISHED
from ...stores import WILD, open_store, scheme_of, store_errors, without_credentials
from ..bytes.compression import open_binary
from ..bytes.remote_cache import KEPT, kept
from ..bytes.unchanged import file_identity
from ..model import ParseOptions, Source, SourceFile
from .data_files import splits_by_name
from .sniff import detect_format, format_by_name
from .split_slices import select_slices


def resolve_remote(url: str, options: ParseOptions, split: str | None = None, keep_in: Path | None = None) -> Source:
    """Return the file at `url`, or those matching it as a glob, as one split; or the files of a folder by split.

    With `split` only its files are opened. With `keep_in` what is read of them is kept in a new folder there. Raises
    InputError, UnknownName, MissingExtra.
    """
    found = found_files(url)
    shown = without_credentials(url)
    if not any(found.values()):
        raise InputError(f"no file matches `{shown}`", code="file.missing", hint="check the path and the pattern")
    wanted = dict.fromkeys(part.split for part in select_slices(split, list(found))) if split else found
    folder = None if keep_in is None else Path(tempfile.mkdtemp(dir=keep_in, prefix=KEPT))
    files = {name: tuple(_file(file, folder, options) for file in found[name]) for name in wanted}
    return Source(shown, "files", files, options=options)


def found_files(url: str) -> dict[str, list[str]]:
    """Return the URLs of the files at a URL, a glob or a folder, by split."""
    with store_errors(url, InputError):
        system, path = open_store(url)
        if WILD.search(url) and "://" not in path and not system.exists(path):
            found = sorted(system.glob(path, detail=True).items())
            return {"train": [system.unstrip_protocol(name) for name, entry in found if entry["type"] == "file"]}
        is_page = scheme_of(url) in ("http", "https") and not url.endswith("/")  # fsspec would read it to find links
        if is_page or not system.isdir(path):
            return {"train": [url]}
        names = {name: name[len(path) :].strip("/") for name in sorted(system.find(path))}
        if UNFINISHED in names.values() and MANIFEST not in names.values():
            raise InputError(
                f"`{without_credentials(url)}` is an output that is not finished", code="file.unfinished",
                hint="run the conversion that writes it again, or name some of its files",
            )  # fmt: skip
        return splits_by_name({system.unstrip_protocol(key): name for key, name in names.items() if _is_data(name)})


def _is_data(below: str) -> bool:
    parts = below.split("/")
    return all(part[:1] not in ("", ".", "_") for part in parts) and format_by_name(parts[-1]) is not None


def _file(url: str, folder: Path | None, options: ParseOptions) -> SourceFile:
    shown, uri = without_credentials(url), kept(url, folder)
    with store_errors(url, InputError):
        identity = file_identity(uri)
        format, compression = detect_format(uri, shown, options)
        with open_binary(uri) as file:
            size = file.seek(0, os.SEEK_END)
    return SourceFile(uri, shown, format, compression, size, identity)
