"""Output to a terminal: reports on stdout, messages and progress on stderr, tables.

Data files keep every character. In messages and reports control, bidi, zero-width and unassigned characters become
`\\xNN` or `\\uNNNN`: a terminal would obey them, and rich does not remove them (it passes on ESC, OSC and C1).
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import ChatfmtError, OutputError, ReaderGone
from ..visible_text import visible as visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table
    from rich.text import Text

    from ..pipeline.running.progress import Reached


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, as in `1 row` and `2,000 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


LONGEST_NAME = 4096
"""Characters of a name that is shown whole, which is the longest path that Linux opens."""


def print_err(text: str) -> None:
    """Print a line to stderr, made visible, above any progress bar; do nothing if stderr is closed."""
    line = visible(_with_names_cut(text), lines=True)
    try:
        if _drawing:
            _drawing[-1].console.print(line, soft_wrap=True)
            return
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, AttributeError, ValueError):
        pass


def wrapped(text: str, *, stderr: bool = False) -> str:
    """Return lines broken at blanks to the width of the terminal that a stream is; unchanged for files and pipes."""
    import textwrap

    stream = sys.stderr if stderr else sys.stdout
    if stream is None or not stream.isatty():
        return text
    wrapper = textwrap.TextWrapper(
        console(stderr=stderr).width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(map(wrapper.fill, text.splitlines()))


def print_wrapped(text: str) -> None:
    """Print text of the data on stdout, control characters made visible, its lines as `wrapped` breaks them."""
    print_out(wrapped(visible(text)))


def _with_names_cut(text: str) -> str:
    """Replace the middle of what is longer than `LONGEST_NAME`, quoted or without a blank, such as names of files."""
    return re.sub(r"`[^`\n]*`|\S+", lambda name: _cut(name[0]) if len(name[0]) > LONGEST_NAME else name[0], text)


def _cut(name: str) -> str:
    return f"{name[:200]} … {name[-200:]}"


def print_note(note: str) -> None:
    """Print `note: …` to stderr."""
    print_err(f"note: {note}")


def print_error(error: ChatfmtError) -> None:
    """Print `error: …` and, if there is a hint, `hint: …` to stderr, without the passwords of URLs in them."""
    from ..stores import without_credentials

    print_err(f"error: {visible(without_credentials(str(error)))}")
    if error.hint:
        print_err(f"hint: {visible(without_credentials(error.hint))}")


@contextmanager
def warnings_printed() -> Iterator[None]:
    """Print to stderr what chatfmt logs inside the block."""
    import logging

    class PrintHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print_err(record.getMessage())

    log, handler = logging.getLogger("chatfmt"), PrintHandler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def print_out(text: str) -> None:
    """Print a report, already visible, to stdout. Raises OutputError if stdout is closed, ReaderGone if its pipe is."""
    check_stdout()
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # Click would end the process with exit code 1
        raise ReaderGone from None


def print_json(value: object) -> None:
    """Print a report as one line of JSON to stdout."""
    print_out(json.dumps(value, ensure_ascii=False))


def check_stdout() -> None:
    """Raise OutputError if the process has no stdout."""
    if sys.stdout is None:
        raise OutputError("stdout is closed", hint="redirect it, as in `> report.txt`", code="output.closed")


def console(*, stderr: bool = False) -> Console:
    """Return a console for a stream; colour follows `NO_COLOR`, `FORCE_COLOR` and the terminal.

    In a pipe its width is 100, or `COLUMNS`.
    """
    from rich.console import Console

    if not stderr:
        check_stdout()
    stream = sys.stderr if stderr else sys.stdout
    width = None if (stream is not None and stream.isatty()) or "COLUMNS" in os.environ else 100
    made = Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)
    made.on_broken_pipe = _reader_gone  # type: ignore[method-assign]  # rich's own ends the process with exit code 1
    return made


def _reader_gone() -> None:
    raise ReaderGone


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> Table:
    """Return a table of untrusted cells that folds no word of up to `WORD` characters; `right` aligns columns right.

    Without room for that it has no bars, which are the cells of type `Text`, or is a block of lines for each row.
    """
    from rich.cells import cell_len
    from rich.text import Text

    rows = list(rows)
    heads = [Text(visible(title, lines=True)) for title in titles]
    shown = [[cell if isinstance(cell, Text) else Text(visible(str(cell))) for cell in row] for row in rows]
    columns = list(zip(heads, *shown, strict=True))
    widths = [max(cell_len(line) for cell in column for line in cell.plain.split("\n")) for column in columns]
    words = [max(cell_len(word) for cell in column for word in ("", *cell.plain.split())) for column in columns]
    room = max(console().width + 1 - 3 * len(titles), 0)
    kept = [place for place in range(len(titles)) if not any(isinstance(row[place], Text) for row in rows)]
    if sum(widths) > room and len(kept) < len(titles):
        cells = [[row[place] for place in kept] for row in rows]
        return table([titles[place] for place in kept], cells, right=[kept.index(place) for place in right])
    while sum(widths) > room:
        widest = max(kept, key=lambda place: (widths[place] > words[place], place not in right, widths[place]))
        widths[widest] -= 1
    if len(titles) > 2 and any(width < min(word, WORD) for width, word in zip(widths, words, strict=True)):
        return _blocks(heads, shown)
    made = _empty_table()
    for place, (head, width) in enumerate(zip(heads, widths, strict=True)):
        made.add_column(head, justify="right" if place in right else "left", width=width, overflow="fold")
    for row in shown:
        made.add_row(*row)
    return made


WORD = 24
"""Characters of the longest word that tables never fold, if there are so many columns."""


def _empty_table(*, titles: bool = True) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(box=SIMPLE_HEAD, pad_edge=False, show_header=titles)


def _blocks(heads: Sequence[Text], rows: Iterable[Sequence[Text]]) -> Table:
    """Return a table with a block of lines for each row, and a line of it for each column."""
    made = _empty_table(titles=False)
    made.add_column()
    made.add_column(overflow="fold")
    for row in rows:
        for pair in zip(heads, row, strict=True):
            made.add_row(*pair)
        made.add_section()
    return made


def aligned(rows: Sequence[Sequence[str]], *, cut: int) -> str:
    """Return one line per row, columns two spaces apart, on 80 columns at most: `…` ends the cells of column `cut`."""
    rooms = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rooms[cut] = max(1, rooms[cut] - max(0, sum(rooms) + 2 * (len(rooms) - 1) - min(80, console().width)))

    def line(row: Sequence[str]) -> str:
        cells = (cell if len(cell) <= room else cell[: room - 1] + "…" for cell, room in zip(row, rooms, strict=True))
        return visible("  ".join(cell.ljust(room) for cell, room in zip(cells, rooms, strict=True)).rstrip())

    return "\n".join(map(line, rows))


@contextmanager
def spinner(*, quiet: bool = False) -> Iterator[None]:
    """Show a spinner on stderr, if that is a terminal, while the source is read and nothing is written yet."""
    if not is_drawn(quiet):
        yield
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    from ..pipeline.running.progress import READING

    with _drawn(SpinnerColumn("line"), TextColumn(READING), TimeElapsedColumn()) as bar:
        bar.add_task("read", total=None)
        yield


@contextmanager
def reading() -> Iterator[Callable[[Reached], None]]:
    """Yield a function to call with how far a source is read; it draws a bar on stderr if that is a terminal."""
    from ..pipeline.running.progress import READING

    with progress(None, quiet=not is_drawn(quiet=False), stage=READING) as advance:
        yield advance


@contextmanager
def progress(total: int | None, *, quiet: bool, stage: str = "converting") -> Iterator[Callable[[Reached], None]]:
    """Yield a function to call with how far a run of so many rows is.

    It draws a bar on stderr if that is a terminal, and else prints a line every LOG_EVERY seconds.
    """
    if not is_drawn(quiet):
        yield (lambda reached: None) if quiet else _logged(total)
        return
    from rich.progress import BarColumn, TextColumn

    line, watch = BarColumn(BAR), Stopwatch(total)
    with _drawn(TextColumn("{task.description}"), line, TextColumn("{task.fields[about]}")) as bar:
        task, room = bar.add_task(stage, total=total, about=""), bar.console.width

        def advance(reached: Reached) -> None:
            parts = watch.line(reached).split(", ")
            while len(parts) > 2 and len(reached.stage) + len(", ".join(parts)) + 3 > room:
                del parts[1]
            about = ", ".join(parts)
            line.bar_width = max(1, min(BAR, room - len(reached.stage) - len(about) - 2))
            bar.update(task, description=reached.stage, completed=reached.rows, total=watch.total, about=about)

        yield advance


BAR = 40
"""Columns of the progress bar where there is room."""
LOG_EVERY = 10.0
"""Seconds between two lines about the progress of a run whose stderr is a file or a pipe."""


class Stopwatch:
    """The progress of a run in numbers; `total` is the number of rows of the current stage, if it is known."""

    def __init__(self, total: int | None) -> None:
        self.total, self._source_rows = total, total
        self._stage, self._rows, self._started = "", 0, time.monotonic()

    def line(self, reached: Reached) -> str:
        """Return the line that shows the progress."""
        if (self._stage and reached.stage != self._stage) or reached.rows < self._rows:  # a new stage or source
            self._started = time.monotonic()
        self._stage, self._rows = reached.stage, reached.rows
        self.total = self._source_rows if reached.total is None else reached.total
        return progress_line(reached, self.total, time.monotonic() - self._started)


def _logged(total: int | None) -> Callable[[Reached], None]:
    watch, last = Stopwatch(total), time.monotonic()

    def advance(reached: Reached) -> None:
        nonlocal last
        line = watch.line(reached)
        if time.monotonic() - last >= LOG_EVERY:
            last = time.monotonic()
            print_err(f"{reached.stage}: {line}")

    return advance


def progress_line(reached: Reached, total: int | None, seconds: float) -> str:
    """Return how far a stage is after some seconds: `2,000 of 8,000 rows, 100 rows/s, 1.5 MB/s, 1:00 left`."""
    parts = [f"{reached.rows:,} rows" if total is None else f"{reached.rows:,} of {total:,} rows"]
    speed = reached.rows / seconds if seconds else 0.0
    if speed:
        parts.append(f"{speed:,.0f} rows/s")
    if speed and reached.bytes:
        parts.append(f"{reached.bytes / seconds / 1e6:,.1f} MB/s")
    if speed and total is not None:
        left = round(max(0, total - reached.rows) / speed)
        minutes = f"{left // 3600}:{left % 3600 // 60:02}" if left >= 3600 else f"{left // 60}"
        parts.append(f"{minutes}:{left % 60:02} left")
    if reached.rejected:
        parts.append(f"{reached.rejected:,} rejected")
    return ", ".join(parts)


def is_drawn(quiet: bool) -> bool:
    """Return whether progress is drawn: on a terminal, unless `quiet`."""
    return not quiet and sys.stderr is not None and sys.stderr.isatty()


def stdout_is_terminal() -> bool:
    """Return whether what is written to stdout appears on the terminal, where a progress bar would be in its way."""
    return sys.stdout is not None and sys.stdout.isatty()


_drawing: list[Progress] = []
"""The display on stderr now, if any. Process-wide, as stderr is: `print_err` must write above it from any thread."""


@contextmanager
def _drawn(*columns: ProgressColumn) -> Iterator[Progress]:
    """Draw columns on stderr and remove them at the end; rich must not capture stdout, where the data goes."""
    from rich.progress import Progress

    shown_on = console(stderr=True)
    with Progress(*columns, console=shown_on, redirect_stdout=False, redirect_stderr=False, transient=True) as bar:
        _drawing.append(bar)
        try:
            yield bar
        finally:
            _drawing.remove(bar)
