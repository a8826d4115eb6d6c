"""All errors that chatfmt raises on purpose.

ChatfmtError                 message, hint, at (file, row, message), code
├── BatchTooLarge              rows become too much text at once; a conversion renders fewer          exit 1
├── DataProblem                `check` or `verify` finds problems, or too many rows are rejected       exit 1
├── UsageError                 the command or recipe asks for something impossible                    exit 2
│   ├── RecipeError              all problems of a recipe, each with its key
│   ├── UnknownName              no such dialect, template, format, executor, subset …
│   ├── NoDialect                no dialect fits, or two do; lists the columns and what to map
│   └── MissingExtra             an optional dependency is not installed
├── InputError                 cannot be read: not found, gated, empty, damaged                       exit 3
├── RowError                   one row cannot be converted; `at` says which                           exit 4
│   ├── DialectError             its columns are not a conversation
│   ├── TooManyKeys              objects have so many different keys that their columns would fill the memory
│   ├── CheckError               a check that the user made an error fails
│   └── RenderError              the chat template rejects it; `__cause__` is what Jinja raised
├── OutputError                exists, disk full, fingerprint differs, locked                         exit 5
└── TemplateError              does not compile, forbidden construct, over a limit, loses messages    exit 6

Errors cross process boundaries, so every constructor is (message, **optional).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from msgspec import Struct
from msgspec.structs import replace

Value = TypeVar("Value")
Made = TypeVar("Made")


class Location(Struct, frozen=True, gc=False, omit_defaults=True):
    """A position in the input: a file as the user named it, and a record, message, line or byte in it.

    `row` counts the records of the file from 0. In a stage that sees only a batch, `row` is the index in that batch and
    `file` is empty; `located` turns it into the number of the source row.
    `line` counts from 1, `byte` from 0; both are None where the reader does not know them.
    """

    file: str = ""
    row: int | None = None
    message: int | None = None
    line: int | None = None
    byte: int | None = None

    def __str__(self) -> str:
        file = "stdin" if self.file == "-" else self.file
        return " ".join([*([file] if file else []), *([] if self.row is None else [f"row {self.row}"])])

    @property
    def place(self) -> str:
        """The position in the file, as in `row 3 message 2 (line 4)`; empty if unknown."""
        counted = [
            f"{name} {value}" for name, value in (("row", self.row), ("message", self.message)) if value is not None
        ]
        line = "" if self.line is None else f"line {self.line}"
        return f"{' '.join(counted)} ({line})" if counted and line else " ".join(counted) or line

    @property
    def detail(self) -> str:
        """The position within the row, as in `message 2` or `line 4, byte 812`; empty if unknown."""
        within = {"message": self.message, "line": self.line, "byte": self.byte}
        return ", ".join(f"{name} {value}" for name, value in within.items() if value is not None)


NOWHERE = Location()


class ChatfmtError(Exception):
    """The root: `message` is lower case without a full stop, `hint` is what to type next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", at: Location = NOWHERE, code: str = "") -> None:
        super().__init__(message)
        self.message, self.hint, self.at, self.code = message, hint, at, code

    def locate(
        self, file: str = "", rows: Any = None, *, row: int | None = None, message: int | None = None,
        line: int = 1, byte: int | None = None,
    ) -> None:  # fmt: skip
        """Add what the caller knows to `at`; the one place that stamps a location.

        An error that names its file is left alone, so the innermost boundary wins. `rows` turns a row of the batch
        into the source row `rows[row]`; it is a sequence or an Arrow column of integers. `row` and `message` fill in
        what is unknown, except in a UsageError, which is about the command. `line` and `byte` are where the text
        begins in which the error counts its own.
        """
        at = self.at
        if at.file:
            return
        if isinstance(self, UsageError):
            row = message = None
        if at.row is not None:
            row = at.row if rows is None else rows[at.row]
            row = row.as_py() if hasattr(row, "as_py") else int(row)
        if at.message is not None:
            message = at.message
        if byte is not None:
            at = replace(at, line=line + (at.line or 1) - 1, byte=byte + (at.byte or 0))
        self.at = Location(file, row, message, at.line, at.byte)

    def forget_frames(self) -> None:
        """Drop the tracebacks of an error that is kept: their frames hold what was converted, and the error itself."""
        error: BaseException | None = self
        while error is not None:
            error.__traceback__ = None
            error = error.__cause__ or error.__context__

    def __str__(self) -> str:
        where, detail = str(self.at), self.at.detail
        return (f"{where}: " if where else "") + self.message + (f" ({detail})" if detail else "")


ALL_REJECTED = "rejects.all"
"""The code of the error of a run that rejects all rows, so that nothing of it is worth keeping."""


class DataProblem(ChatfmtError):
    """The data is not good enough: `check` or `verify` found problems, or too many rows were rejected."""

    exit_code = 1


class UsageError(ChatfmtError):
    """The command or the recipe is invalid."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe is invalid; the message has all problems, each with its key."""


def abridged(items: Sequence[str], most: int, joint: str = ", ") -> str:
    """Return the first items, and how many more there are: `a, b and 3 more`."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return joint.join(items[:most]) + more


def nearest(name: str, known: Iterable[str], most: float = float("inf")) -> list[str]:
    """Return up to five of the `known` names that resemble `name`, within `most` edits of it, the nearest first.

    `difflib` alone orders them by what they share, and prefers `chatglm4` to `chatml` for `chatlm`.
    """
    import difflib

    edits = {other: edit_distance(name, other) for other in difflib.get_close_matches(name, list(known), n=5)}
    return sorted((other for other in edits if edits[other] <= most), key=edits.__getitem__)


def edit_distance(one: str, other: str) -> int:
    """Return the number of letters to add, remove, replace or swap with the next one to turn `one` into `other`.

    This is the optimal string alignment distance: https://en.wikipedia.org/wiki/Damerau-Levenshtein_distance
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        earlier, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != wanted)))
            if j > 1 < i and letter == other[j - 2] and one[i - 2] == wanted:
                row[-1] = min(row[-1], earlier[j - 2] + 1)
    return row[-1]


class UnknownName(UsageError):
    """A name is not in its registry (dialect, template, format, executor, subset, …)."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """The error for a name that is not in a registry, with the nearest known name as the hint.

        A name that shares only some letters with it is not near; several that contain it are all named.
        """
        names = sorted(known)
        longer = [other for other in names if name in other or name.startswith(f"{other}.")] if name else []
        close = nearest(name, names, max(2, len(name) // 2))
        if len(longer) > 1 or not (longer or close):
            return cls(f"unknown {kind} `{name}`", hint=f"one of: {', '.join(longer or names)}")
        return cls(f"unknown {kind} `{name}`", hint=f"did you mean `{[*longer, *close][0]}`?")


class NoDialect(UsageError):
    """No dialect fits the rows, or several do; the hint suggests what to map."""


class MissingExtra(UsageError):
    """An optional dependency is not installed."""

    @classmethod
    def of(cls, package: str, extra: str) -> MissingExtra:
        return cls(
            f"the package `{package}` is not installed",
            hint=f'pip install "chatfmt[{extra}]"; in a checkout: pip install ".[{extra}]"',
        )


class InputError(ChatfmtError):
    """The input cannot be read: not found, gated, empty or damaged."""

    exit_code = 3


class RowError(ChatfmtError):
    """A row cannot be converted; `code` is the stable reason (`msg.role`, `json.duplicate_key`, …)."""

    exit_code = 4
    csv: Mapping[str, Any] | None = None
    """The settings for reading the raw text of a row that is not JSON; see `manifest.Reject`."""
    more_rows: Sequence[int] = ()
    """Later rows of the batch that have the same error, at the same message."""
    others: Sequence[RowError] = ()
    """The other errors of the batch that were found with this one."""
    costly: bool = False
    """Whether it took so long to find that the same error is not sought in other rows."""

    def of_rows(self, rows: Sequence[int]) -> Self:
        """Return the error as that of some rows of a batch, in order."""
        self.at, self.more_rows = replace(self.at, row=rows[0]), rows[1:]
        return self

    @property
    def rows(self) -> tuple[int | None, ...]:
        """All rows that have the error."""
        return (self.at.row, *self.more_rows)

    def locate(self, file: str = "", rows: Any = None, **kwargs: Any) -> None:
        if (self.others or self.more_rows) and hasattr(rows, "to_pylist"):
            rows = rows.to_pylist()
        for error in (self, *self.others):
            if error.more_rows and rows is not None and not error.at.file:
                error.more_rows = [int(rows[row]) for row in error.more_rows]
            ChatfmtError.locate(error, file, rows, **kwargs)


SKIP = "`--on-error skip` leaves out such rows, and --rejects FILE keeps them"
"""The hint of an error of a row that stops a run, if there is no better one."""


def raise_first(errors: Sequence[RowError]) -> None:
    """Raise the error of the first row, with those of the `others`; nothing without errors."""
    if errors:
        raise first_of(errors)


def first_of(errors: Sequence[RowError]) -> RowError:
    """Return the error of the first row, with those of the `others`; of errors in one row the first one counts."""
    counted, taken = list[RowError](), set[int]()
    for error in errors:
        rows = [row for row in error.rows if row is not None and row not in taken]
        taken.update(rows)
        if error.at.row is None or len(rows) == len(error.rows):
            counted.append(error)
        elif rows:
            counted.append(error.of_rows(rows))
    first, *others = sorted(counted, key=lambda error: -1 if error.at.row is None else error.at.row)
    first.others = others
    return first


def refuse_rows(rows: Iterable[int], error: Callable[[int], RowError]) -> None:
    """Raise the errors of these rows; `error` makes that of a row, without its location."""
    errors = []
    for row in rows:
        errors.append(error(row))
        errors[-1].locate(row=row)
    raise_first(errors)


def map_rows(function: Callable[[Value], Made], values: Iterable[Value]) -> list[Made]:
    """Return what a function makes of each value, by row; raises the errors of all rows together."""
    made: list[Made] = []
    errors: list[RowError] = []
    for row, value in enumerate(values):
        try:
            made.append(function(value))
        except ChatfmtError as error:
            error.locate(row=row)
            if not isinstance(error, RowError):
                raise
            errors.append(error)
            if error.costly:
                break
    raise_first(errors)
    return made


class DialectError(RowError):
    """The columns of a row are not a conversation of its dialect."""


class TooManyKeys(RowError):
    """Objects have so many different keys that their columns, most of them empty, would fill the memory."""


class CheckError(RowError):
    """A check that the user made an error fails on a row."""


class RenderError(RowError):
    """The chat template rejects a row; `__cause__` is what Jinja raised."""


class OutputError(ChatfmtError):
    """The output cannot be written: it exists, is locked, or the disk is full."""

    exit_code = 5


def is_panic(error: BaseException) -> bool:
    """Return whether an exception is a panic of a library in Rust, which is not of class Exception."""
    return type(error).__name__ == "PanicException"


def exhausted(error: BaseException) -> OutputError | None:
    """Return the error to show where the system has no more memory, threads, processes or open files; else None.

    Native code raises some of these as RuntimeError.
    """
    text, number = str(error), getattr(error, "errno", None)
    unmapped = "bad_alloc" in text or "failed to map segment" in text  # a library that cannot be loaded
    if isinstance(error, MemoryError) or unmapped or number == errno.ENOMEM:
        hint = "use fewer `--workers`, or a machine with more memory, then run again"
        return OutputError("out of memory", hint=hint, code="system.memory")
    if "can't start new thread" in text or "Resource temporarily unavailable" in text:
        hint = "raise the limits (`ulimit -u`, `ulimit -v`), or use fewer `--workers`, then run again"
        return OutputError("the system starts no more threads or processes", hint=hint, code="system.threads")
    if number in (errno.EMFILE, errno.ENFILE) or os.strerror(errno.EMFILE) in text:  # in a panic of Rust
        message, hint = _DISK_ERRORS[number or errno.EMFILE]
        return OutputError(message, hint=hint, code="system.files")
    return None


AGAIN = "then run again"
"""The end of the hints that `--resume` is added to where the run leaves something to resume."""
FREE_SPACE = "free some space, then run again"
_DISK_ERRORS = {
    errno.ENOSPC: ("the disk is full", FREE_SPACE),
    errno.EDQUOT: ("the disk quota is used up", FREE_SPACE),
    errno.EFBIG: ("the file would be larger than is allowed here", "write a folder with `--shard-size 500MB`"),
    errno.EIO: ("the disk reports an error", "check the disk, then run again"),
    errno.EMFILE: (
        "too many files are open",
        "raise the limit with `ulimit -n`, or use fewer `--workers`, then run again",
    ),
    errno.ENFILE: (
        "too many files are open on this machine",
        "wait until other programs have closed theirs, then run again",
    ),
    errno.EROFS: ("the file system is read-only", "choose another path"),
    errno.EACCES: ("permission denied", "choose another path"),
    errno.EPERM: ("permission denied", "choose another path"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another path"),
    errno.EISDIR: ("it is a folder, not a file", "choose another path"),
    errno.ENAMETOOLONG: ("the name is too long", "choose another path"),
    errno.ENXIO: ("it is a socket, or a device that is not there", "choose another path"),
    errno.ELOOP: ("its symbolic links form a loop", "choose another path"),
}
"""What the errors of a disk say, and what helps where they meet an output."""


def explain_disk_error(error: OSError) -> tuple[str, str, str]:
    """Return what an error of a disk says, what helps where it meets an output, and its code, as in `enospc`."""
    message, hint = _DISK_ERRORS.get(error.errno or 0, (error.strerror or str(error), "check the path"))
    return message, hint, errno.errorcode.get(error.errno or 0, "EIO").lower()


class TemplateError(ChatfmtError):
    """A template does not compile, is forbidden or over a limit, or would lose content."""

    exit_code = 6


class ReaderGone(BaseException):
    """A broken pipe (`| head`): not an error, the run ends quietly with exit code 141."""


@contextmanager
def located(file: str = "", rows: Any = None, *, row: int | None = None, message: int | None = None) -> Iterator[None]:
    """Stamp a location on a ChatfmtError raised inside, as `ChatfmtError.locate` does."""
    try:
        yield
    except ChatfmtError as error:
        error.locate(file, rows, row=row, message=message)
        raise
