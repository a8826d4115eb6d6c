"""Files behind URLs that fsspec knows (`hf://`, `s3://`, `https://`, …), read where they lie."""

from __future__ import annotations

import re
from typing import Any

from ..errors import InputError, Location, MissingExtra
from .model import ReaderOptions, Source, SourceFile
from .sniff import look_at, named_format

_WILD = re.compile(r"[*?\[]")


def resolve_remote(url: str, options: ReaderOptions) -> Source:
    """The file at `url`, or those that match it as a glob, or the data files of it as a folder, as one split."""
    names = _names(url)
    if not names:
        raise InputError(f"no file matches `{url}`", code="file.missing")
    return Source(url, "files", {"train": tuple(_file(name, options) for name in names)}, options=options)


def _names(url: str) -> list[str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        if _WILD.search(url) and "://" not in path:
            found = sorted(system.glob(path))
        elif system.isdir(path):
            found = sorted(name for name in system.find(path) if _is_data(name[len(path) :]))
        else:
            return [url]
        return [system.unstrip_protocol(name) for name in found]
    except ImportError as error:
        raise MissingExtra(f"`{url.split('://')[0]}://` needs another package: {error}", hint="install it") from None
    except (OSError, ValueError) as error:
        raise _unreachable(url, error) from None


def _is_data(below: str) -> bool:
    parts = below.strip("/").split("/")
    return all(part[:1] not in ("", ".", "_") for part in parts) and named_format(parts[-1]) is not None


def _file(url: str, options: ReaderOptions) -> SourceFile:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        size = int(system.info(path).get("size") or 0)
        format, compression = look_at(url, url, options)
    except (OSError, ValueError) as error:
        raise _unreachable(url, error) from None
    return SourceFile(url, url, format, compression, size)


def _unreachable(url: str, error: Any) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"no such file `{url}`", code="file.missing")
    return InputError(f"cannot read: {error}", code="file.missing", at=Location(url))
