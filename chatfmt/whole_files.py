"""Read files that are read whole, such as templates, recipes and cards: regular ones, of bounded size."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InputError

MOST_BYTES = 256 << 20


def is_regular(path: Path) -> bool:
    """Return whether a path is a file that ends: no device or pipe, and none of those of /proc, whose size is 0."""
    if not path.is_file():
        return False
    if path.stat().st_size:
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:  # its reader raises the error to show
        return True
    try:
        return not os.read(descriptor, 1)
    except OSError:  # it waits for more, or cannot be read from its beginning
        return False
    finally:
        os.close(descriptor)


def check_whole(path: Path, most: int = MOST_BYTES) -> None:
    """Raise InputError for anything but a regular file of at most `most` bytes; OSError without a file."""
    size = path.stat().st_size
    if not is_regular(path):
        raise InputError(f"`{path}` is not a regular file", code="file.missing", hint="name a file")
    if size > most:
        raise InputError(f"`{path}` has {size:,} bytes, more than the {most:,} that are read of such files")


def read_whole(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a file; raises as `check_whole` does."""
    check_whole(path, most)
    return path.read_bytes()
