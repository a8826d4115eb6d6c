"""A hostile case: the files of a folder, a command to run in it, and the one right outcome."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Content = bytes | Callable[[Path], object]
"""The bytes of a file, or a function that makes it at a path."""
GOOD = b'{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]}'
CONVERT = ("convert", "in.jsonl", "-o", "out.jsonl", "--keep", "all")


@dataclass(frozen=True)
class Error:
    """The command fails with this exit code, reason code and beginning of the message; nothing is written."""

    exit: int
    code: str
    says: str


@dataclass(frozen=True)
class Bad:
    """A row is rejected with this code: the run stops there, and `--on-error skip` writes the other rows unchanged."""

    code: str
    says: str
    row: int = 1


@dataclass(frozen=True)
class Rows:
    """The output has exactly these rows: values, types of numbers and order of keys."""

    rows: list[Any]


@dataclass(frozen=True)
class Kept:
    """The output has the rows that a slow reader finds in the input file."""


@dataclass(frozen=True)
class Refused:
    """A system call fails: either an input or output error with nothing written, or success."""


@dataclass(frozen=True)
class Damaged:
    """A byte of a file was changed: an error, or these rows; None if no checksum covers the byte.

    The output may differ then, but nothing crashes.
    """

    rows: list[Any] | None


@dataclass(frozen=True)
class Told:
    """The command ends with this exit code; stdout and stderr contain these texts."""

    exit: int
    stdout: tuple[str, ...] = ()
    stderr: tuple[str, ...] = ()


Expected = Error | Bad | Rows | Kept | Refused | Damaged | Told


@dataclass(frozen=True)
class Case:
    name: str
    files: Mapping[str, Content]
    expected: Expected
    command: tuple[str, ...] = CONVERT
    stdin: bytes | None = None
    stdout: str = "file"
    """`file`, `full` (no space left), `closed`, or `gone` (a pipe without a reader)."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Soft resource limits by name, such as `RLIMIT_NOFILE`."""
    leaves: tuple[str, ...] = ()
    """Names that may be there afterwards besides input and output."""


def link(target: str) -> Content:
    """A symbolic link."""
    return lambda path: path.symlink_to(target)


def folder(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def locked(path: Path) -> None:
    """A file that may not be read."""
    path.write_bytes(GOOD)
    path.chmod(0)


def lines(*rows: bytes) -> bytes:
    return b"".join(row + b"\n" for row in rows)
