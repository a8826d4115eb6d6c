"""Check that files end: those read whole, such as templates, recipes and cards, are regular and of bounded size."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InputError, Location

MOST_BYTES = 256 << 20
MOST_UNWRITTEN = 1 << 30
CHECK_ACCESS = "check who may read it with `ls -l`"


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


def check_written(path: Path, shown: str) -> None:
    """Raise InputError for a file with more than 1 GiB in holes, which were never written and are read as zeros.

    A terabyte of them takes no space, and an hour to read.
    """
    found = path.stat()
    if found.st_size - getattr(found, "st_blocks", found.st_size) * 512 <= MOST_UNWRITTEN:
        return
    with path.open("rb") as file:
        unwritten, at, first = 0, 0, os.lseek(file.fileno(), 0, os.SEEK_HOLE)
        while at < found.st_size:
            start = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            try:
                at = os.lseek(file.fileno(), start, os.SEEK_DATA)
            except OSError:  # it ends with a hole
                at = found.st_size
            unwritten += at - start
    if unwritten > MOST_UNWRITTEN:
        raise InputError(
            f"{unwritten:,} of its {found.st_size:,} bytes were never written: the file is sparse",
            hint="download or copy it again", code="file.truncated", at=Location(shown, byte=first),
        )  # fmt: skip


def check_whole(path: Path, most: int = MOST_BYTES) -> None:
    """Raise InputError for anything but a regular file of at most `most` bytes; OSError without a file."""
    size = path.stat().st_size
    if not is_regular(path):
        raise InputError(f"`{path}` is not a regular file", code="file.missing", hint="name a file")
    if size > most:
        raise InputError(f"`{path}` has {size:,} bytes, more than the {most:,} that are read of such files")


def read_whole(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a file; raises as `check_whole` does, and InputError if it may not be read."""
    try:
        check_whole(path, most)
        return path.read_bytes()
    except PermissionError as error:
        text = f"cannot open `{path}`: {error.strerror}"
        raise InputError(text, code="file.permission", hint=CHECK_ACCESS) from None
