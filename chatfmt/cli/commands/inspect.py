"""`chatfmt inspect` and `check`: look at a dataset before converting it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import DataProblem, Location, UsageError, abridged
from .. import options, terminal
from ..options import Sources
from ..requests import to_recipe
from ..summary import left_behind, left_out
from ..workers import reading_in_workers

if TYPE_CHECKING:
    from rich.table import Table

    from ...pipeline.inspection.check import RowProblem
    from ...pipeline.inspection.inspect import Inspection
    from ...pipeline.inspection.statistics import Spread

CELL = 60
"""Characters of a value shown in a table."""
SHOWN_PROBLEMS = 50
"""Kinds of problems per file in the table of `check`."""
SHOWN_ROWS = 5
"""Rows listed for one kind of problem."""


@options.declare(options.SELECTION, {"template": options.TEMPLATE["template"]}, {"json": options.REPORT["json"]})
@reading_in_workers
def inspect(source: Sources, **given: Any) -> None:
    """Show what is in a dataset and how chatfmt reads it: columns, detected dialect, roles, lengths, problems.

    Reads up to 1000 rows, and prints the command that converts all of them.
    """
    from ...pipeline.inspection import inspect as inspection_of

    recipe, run, _ = to_recipe(source, given)
    with terminal.spinner():
        found = inspection_of.inspect(recipe)
    for inspection in found:
        if run.json:
            terminal.print_json(inspection.to_json())
        else:
            print_inspection(inspection)
        if inspection.problem:
            raise UsageError(f"{Location(inspection.source)}: {inspection.problem}", hint=inspection.hint or "")


def print_inspection(found: Inspection) -> None:
    """Print the report as text."""
    screen = terminal.console()
    files = ", ".join(f"{name}: {terminal.counted(count, 'file')}" for name, count in found.splits.items())
    screen.print(terminal.visible(f"{Location(found.source)} ({found.kind}, {files})"))
    for label, value in (("dataset", found.dataset), ("commit", found.revision), ("licence", found.licence)):
        if value:
            screen.print(terminal.visible(f"  {label}: {value}"))
    screen.print(columns_table(found))
    if found.detection is None:
        return
    print_detection(found.detection)
    for line in statistics(found, found.detection["type"]):
        screen.print(terminal.visible(line))
    for note in found.notes:
        screen.print(terminal.visible(f"note: {note}"), soft_wrap=True)
    if line := left_behind(found.left_columns, found.left_keys):
        terminal.print_wrapped(line)
    if found.command:
        screen.print(terminal.visible(f"convert it with:\n  {found.command}", lines=True), soft_wrap=True)


def columns_table(found: Inspection) -> Table:
    """Return the columns of the source, with those that the dialect uses marked."""
    used = set(found.detection["used"]) if found.detection else set()
    rows = [
        (column["name"], column["type"], f"{column['filled']}/{found.rows_seen}",
         "yes" if column["name"] in used else "", short(column["example"]))
        for column in found.columns
    ]  # fmt: skip
    return terminal.table(("column", "type", "rows", "used", "first value"), rows, right=(2,))


def print_detection(detection: Mapping[str, Any]) -> None:
    """Print the dialect and why, the other dialects that fit, and what stays unused."""
    terminal.print_wrapped(f"dialect: {detection['dialect']} ({detection['type']}), {detection['reason']}")
    for name, why in detection["others"].items():
        terminal.print_wrapped(f"  also possible: {name}: {why}")
    for note in detection["left"]:
        terminal.print_wrapped(note)


def statistics(found: Inspection, data_type: str) -> Iterator[str]:
    """Yield lines on roles, lengths and problems."""
    if found.roles:
        yield "roles: " + ", ".join(f"{name} {count:,}" for name, count in found.roles.items())
    joint = " (of prompt, chosen and rejected together)" if data_type == "preference" else ""
    for label, spread in (("turns per row", found.turns), ("characters per row", found.characters)):
        if spread:
            yield f"{label}: {show_spread(spread)}{joint}"
    problems = (f"{code}{meaning(code)} in {terminal.counted(count, 'row')}" for code, count in found.findings.items())
    yield f"problems: {', '.join(problems) or 'none'}"


def meaning(code: str) -> str:
    """Return what a check finds, in brackets; nothing for a reason to reject."""
    from ...checks import CHECKS

    return f" ({CHECKS[code].summary})" if code in CHECKS else ""


def show_spread(spread: Spread) -> str:
    """Return the range and the median as text."""
    if spread.smallest == spread.largest:
        return f"{spread.smallest:,}"
    return f"{spread.smallest:,} to {spread.largest:,}, median {spread.median:,}"


def short(value: Any) -> str:
    """Return the beginning of a value on one line, an empty string in quotes."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    text = terminal.visible(text)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


@options.declare(options.SELECTION, options.CHANGES, options.TEMPLATE, options.VIEW, options.CHECK)
@reading_in_workers
def check(source: Sources, **given: Any) -> None:
    """List every problem that a conversion of the whole dataset would meet, by reason, with rows.

    Exit code 1 if a row cannot be converted, or, with --strict, if there is any finding.
    """
    from ...pipeline import Scratch, cores
    from ...pipeline.inspection.check import check_rows, to_json

    recipe, run, _ = to_recipe(source, given)
    with Scratch() as scratch, terminal.reading() as advance:
        problems, counts = check_rows(recipe, scratch, cores(), advance)
    if run.json:
        terminal.print_json(to_json(problems, counts))
    else:
        print_problems(problems, counts.read)
        if problems and recipe.groups_rows:
            key = ",".join(recipe.group_by)
            terminal.console().print(f"each row is the first of its conversation (--group-by {terminal.visible(key)})")
        if line := left_behind(list(counts.left_column), list(counts.left_key)):
            terminal.print_wrapped(line)
        if counts.left_out:
            terminal.print_wrapped(left_out(counts.left_out))
    wrong = [problem for problem in problems if problem.kind == "error" or problem.code in recipe.fail_on]
    if recipe.strict:
        wrong = problems
    if wrong:
        rows = len({(problem.at.file, problem.at.row) for problem in wrong})
        read = terminal.counted(counts.read, "row")
        raise DataProblem(
            f"{rows:,} of {read} {'has' if rows == 1 else 'have'} problems", hint="--on-error skip rejects them"
        )


SHOWN_HINTS = 3
"""How many different fixes the report names for one code."""


def print_problems(problems: Sequence[RowProblem], rows: int) -> None:
    """Print the report as text: a count for each reason, then where."""
    from ...pipeline.inspection.check import counts_by_code

    screen = terminal.console()
    if not problems:
        screen.print(f"{terminal.counted(rows, 'row')}, no problems")
        return
    kinds = {problem.code: problem.kind for problem in problems}
    hints: dict[str, dict[str, None]] = {problem.code: {} for problem in problems}
    for problem in problems:
        hints[problem.code] |= {problem.hint: None} if problem.hint else {}
    for found in hints.values():  # a hint that ends another one says no more
        for hint in [hint for hint in found if sum(other.endswith(hint) for other in found) > 1]:
            del found[hint]
    fixes = {code: "; or ".join([*found][:SHOWN_HINTS]) for code, found in hints.items()}
    listed = [(code, kinds[code], f"{count:,}", fixes[code]) for code, count in counts_by_code(problems).items()]
    titles = ("code", "kind", "found", "suggested fix")[: 4 if any(fixes.values()) else 3]
    screen.print(terminal.table(titles, [row[: len(titles)] for row in listed], right=(2,)))
    alike: dict[str, dict[tuple[str, str], list[RowProblem]]] = {}
    for problem in problems:
        alike.setdefault(problem.at.file, {}).setdefault((problem.code, problem.detail), []).append(problem)
    for file, kept in alike.items():
        screen.print(terminal.visible(f"in {Location(file)}:"), soft_wrap=True)
        shown = [(*key, rows_of(several)) for key, several in list(kept.items())[:SHOWN_PROBLEMS]]
        screen.print(terminal.table(("code", "problem", "where"), shown))
        if len(kept) > len(shown):
            screen.print(f"… and {len(kept) - len(shown):,} more kinds: --json lists all of them")


def rows_of(problems: Sequence[RowProblem]) -> str:
    """Return the first rows of problems of one kind, and how many more there are."""
    return abridged([problem.at.place for problem in problems], SHOWN_ROWS)
