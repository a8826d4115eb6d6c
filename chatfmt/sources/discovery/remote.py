"""Resolve URLs that fsspec supports (`hf://`, `s3://`, `https://`, …) to remote files, which are read in place."""

from __future__ import annotations

import re
from typing import Any

from ...errors import InputError, Location, MissingExtra
from ..model import ParseOptions, Source, SourceFile
from .data_files import splits_by_name
from .sniff import detect_format, format_by_name
from .split_slices import select_slices

_WILD = re.compile(r"[*?\[]")


def resolve_remote(url: str, options: ParseOptions, split: str | None = None) -> Source:
    """Return the file at `url`, or those matching it as a glob, as one split; or the files of a folder by split.

    With `split` only its files are opened. Raises InputError, UnknownName.
    """
    found = _found(url)
    if not any(found.values()):
        raise InputError(f"no file matches `{url}`", code="file.missing")
    wanted = dict.fromkeys(part.split for part in select_slices(split, list(found))) if split else found
    files = {name: tuple(_file(file, options) for file in found[name]) for name in wanted}
    return Source(url, "files", files, options=options)


def _found(url: str) -> dict[str, list[str]]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        if _WILD.search(url) and "://" not in path:
            return {"train": [system.unstrip_protocol(name) for name in sorted(system.glob(path))]}
        if not system.isdir(path):
            return {"train": [url]}
        names = {name: name[len(path) :].strip("/") for name in sorted(system.find(path))}
        return splits_by_name({system.unstrip_protocol(key): name for key, name in names.items() if _is_data(name)})
    except ImportError as error:
        raise _missing_package(url.split("://")[0], error) from None
    except (OSError, ValueError) as error:
        raise _unreachable(url, error) from None


def _missing_package(scheme: str, error: ImportError) -> MissingExtra:
    from fsspec.registry import known_implementations

    known = known_implementations.get(scheme, {})
    package = str(known.get("class", "")).split(".")[0]
    named = package not in ("", "fsspec")
    message = f"`{scheme}://` needs the package `{package}`" if named else f"`{scheme}://` needs a package: {error}"
    return MissingExtra(message, hint=f"pip install {package}" if named else "install it")


def _is_data(below: str) -> bool:
    parts = below.split("/")
    return all(part[:1] not in ("", ".", "_") for part in parts) and format_by_name(parts[-1]) is not None


def _file(url: str, options: ParseOptions) -> SourceFile:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        size = int(system.info(path).get("size") or 0)
        format, compression = detect_format(url, url, options)
    except (OSError, ValueError) as error:
        raise _unreachable(url, error) from None
    return SourceFile(url, url, format, compression, size)


def _unreachable(url: str, error: Any) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"no such file `{url}`", code="file.missing")
    return InputError(f"cannot read: {error}", code="file.missing", at=Location(url))
