"""What reaches a terminal: untrusted text made visible, messages on stderr, tables and progress through rich.

Data files keep every character. Here control, bidi, zero-width and unassigned characters become `\\xNN` or `\\uNNNN`,
since a terminal obeys them, and rich is no sanitiser (it passes ESC, OSC and C1 on).
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import ChatfmtError, OutputError, ReaderGone

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str, *, lines: bool = False) -> str:
    """The text with every character that a terminal would obey or hide written out; `lines` keeps newlines and tabs."""
    kept = "\n\t" if lines else ""
    return "".join(c if c in kept or unicodedata.category(c) not in _HIDDEN else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    if character in named:
        return named[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def counted(count: int, noun: str) -> str:
    """A number of things, as in `1 row` and `2,000 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def say(text: str) -> None:
    """One line on stderr, made visible, above what is drawn there; quiet where stderr is closed."""
    line = visible(text, lines=True)
    try:
        if _drawing:
            _drawing[-1].console.print(line, soft_wrap=True)
            return
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, AttributeError, ValueError):
        pass


@contextmanager
def warnings_said() -> Iterator[None]:
    """A block in which what chatfmt logs is said as everything else is."""
    import logging

    class Said(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    log, said = logging.getLogger("chatfmt"), Said()
    log.addHandler(said)
    try:
        yield
    finally:
        log.removeHandler(said)


def say_error(error: ChatfmtError) -> None:
    """`error: …` and, if there is one, `hint: …` on stderr."""
    say(f"error: {visible(str(error))}")
    if error.hint:
        say(f"hint: {visible(error.hint)}")


def print_out(text: str) -> None:
    """A report on stdout, already visible. Raises OutputError for a closed stdout, ReaderGone for a reader who left."""
    check_stdout()
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # Click would end the process with exit code 1
        raise ReaderGone from None


def check_stdout() -> None:
    """Raise OutputError where the process has no stdout."""
    if sys.stdout is None:
        raise OutputError("stdout is closed", hint="send it somewhere, as in `> report.txt`", code="output.closed")


def console(*, stderr: bool = False) -> Console:
    """The console of a stream; colour as `NO_COLOR`, `FORCE_COLOR` and the terminal say, width 100 in a pipe."""
    from rich.console import Console

    if not stderr:
        check_stdout()
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream is not None and stream.isatty() else 100
    made = Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)
    made.on_broken_pipe = _reader_gone  # type: ignore[method-assign]  # rich's own ends the process with exit code 1
    return made


def _reader_gone() -> None:
    raise ReaderGone


def table(
    titles: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = (), whole: Sequence[int] = ()
) -> Table:
    """A plain table of untrusted cells; columns in `right` are aligned to the right, those in `whole` never folded."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, title in enumerate(titles):
        made.add_column(
            Text(title), justify="right" if place in right else "left", overflow="fold", no_wrap=place in whole
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(visible(str(cell))) for cell in row))
    return made


@contextmanager
def looking(*, quiet: bool = False) -> Iterator[None]:
    """A sign of life on stderr, if that is a terminal, while data are read that nobody sees yet."""
    if not _is_drawn(quiet):
        yield
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with _drawn(SpinnerColumn("line"), TextColumn("looking at the source"), TimeElapsedColumn()) as bar:
        bar.add_task("look", total=None)
        yield


@contextmanager
def progress(total: int | None, *, quiet: bool) -> Iterator[Any]:
    """A function to call with the rows done so far; draws on stderr only if that is a terminal."""
    if not _is_drawn(quiet):
        yield lambda rows: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("converting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    with _drawn(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task("rows", total=total, speed="")

        def advance(rows: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=rows, speed=f"{speed:,.0f} rows/s" if speed else "")

        yield advance


def _is_drawn(quiet: bool) -> bool:
    return not quiet and sys.stderr is not None and sys.stderr.isatty()


_drawing: list[Progress] = []
"""What is drawn on stderr now, if anything."""


@contextmanager
def _drawn(*columns: ProgressColumn) -> Iterator[Progress]:
    """Columns on stderr that are gone at the end; rich's own capture of stdout is off: it would swallow the data."""
    from rich.progress import Progress

    shown_on = console(stderr=True)
    with Progress(*columns, console=shown_on, redirect_stdout=False, redirect_stderr=False, transient=True) as bar:
        _drawing.append(bar)
        try:
            yield bar
        finally:
            _drawing.remove(bar)
