"""What a hostile case is: the files of a folder, a command in it, and the one outcome that is right."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Content = bytes | Callable[[Path], object]
"""The bytes of a file, or what makes it at a path."""
GOOD = b'{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]}'
CONVERT = ("convert", "in.jsonl", "-o", "out.jsonl", "--keep", "all")


@dataclass(frozen=True)
class Error:
    """The command ends with an exit code, the error has a reason code, and its text begins so; nothing is written."""

    exit: int
    code: str
    says: str


@dataclass(frozen=True)
class Bad:
    """A row is refused for a reason: the run stops there, and with `--on-error skip` the other rows come out as is."""

    code: str
    says: str
    row: int = 1


@dataclass(frozen=True)
class Rows:
    """The rows of the output, exactly: values, kinds of numbers and the order of keys."""

    rows: list[Any]


@dataclass(frozen=True)
class Kept:
    """The rows of the output are those that a slow reader finds in the input file."""


@dataclass(frozen=True)
class Refused:
    """The system refuses something on the way: an error of input or output and nothing written, or all is well."""


@dataclass(frozen=True)
class Damaged:
    """A byte of a file was changed: an error that says so, or the rows as they were; None where no checksum holds
    them, so that the output may have another text, but no accident happens."""

    rows: list[Any] | None


@dataclass(frozen=True)
class Told:
    """The command ends with an exit code; stdout and stderr hold these texts."""

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
    """`file`, `full` (no space left), `closed`, or `gone` (a pipe that nobody reads)."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Soft resource limits by name, such as `RLIMIT_NOFILE`."""
    leaves: tuple[str, ...] = ()
    """What may be there afterwards besides the input and the output."""


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
