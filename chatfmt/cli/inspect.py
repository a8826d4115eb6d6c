"""`chatfmt inspect`, `preview` and `check`: looking before converting."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec.structs import asdict

from ..errors import DataProblem, NoDialect
from . import options, terminal
from .convert import Sources, to_recipe, worker_processes

if TYPE_CHECKING:
    from rich.text import Text

    from ..pipeline.inspection.check import RowProblem
    from ..pipeline.inspection.inspect import Inspection
    from ..pipeline.inspection.preview import PreviewRow
    from ..pipeline.inspection.statistics import Spread

CELL = 60
"""Characters of a value that a table shows."""
SHOWN_PROBLEMS = 50
"""Kinds of problems that the table of `check` lists in a file."""
SHOWN_PLACES = 5
"""Places of one kind of problem that the table lists."""


@options.takes(options.SELECTION, {"template": options.TEMPLATE["template"]}, {"json": options.REPORT["json"]})
@worker_processes()
def inspect(source: Sources, **given: Any) -> None:
    """Show what is in a data set and how chatfmt reads it: columns, dialect and why, roles, lengths, problems.

    Judged by up to 1000 rows; prints the command that converts all of them.
    """
    from ..pipeline import Scratch
    from ..pipeline.inspection.inspect import inspect_sources

    recipe, run, _ = to_recipe(source, given)
    with Scratch() as scratch, terminal.looking():
        found = inspect_sources(recipe, scratch)
    for inspection in found:
        if run.json:
            terminal.print_out(json.dumps(inspection.to_json(), ensure_ascii=False))
        else:
            print_inspection(inspection)
        if inspection.problem:
            raise NoDialect(f"{inspection.source}: {inspection.problem}", hint=inspection.hint or "")


def print_inspection(found: Inspection) -> None:
    """A report for people."""
    screen = terminal.console()
    screen.print(terminal.visible(f"{found.source} ({found.kind}, {in_splits(found.splits)})"))
    for label, value in (("data set", found.dataset), ("commit", found.revision), ("licence", found.licence)):
        if value:
            screen.print(terminal.visible(f"  {label}: {value}"))
    detection = found.detection
    used = set(detection["used"]) if detection else set()
    screen.print(
        terminal.table(
            ("column", "type", "rows", "used", "first value"),
            [
                (column["name"], column["type"], f"{column['filled']}/{found.rows_seen}",
                 "yes" if column["name"] in used else "", short(column["example"]))
                for column in found.columns
            ],
            right=(2,),
        )
    )  # fmt: skip
    if detection is None:
        return
    screen.print(terminal.visible(f"dialect: {detection['dialect']} ({detection['type']}), {detection['reason']}"))
    for name, why in detection["others"].items():
        screen.print(terminal.visible(f"  also possible: {name}: {why}"))
    for said in detection["left"]:
        screen.print(terminal.visible(said), soft_wrap=True)
    if found.roles:
        screen.print(
            "roles: " + terminal.visible(", ".join(f"{name} {count:,}" for name, count in found.roles.items()))
        )
    joint = " (of prompt, chosen and rejected together)" if detection["type"] == "preference" else ""
    for label, spread in (("turns a row", found.turns), ("characters a row", found.characters)):
        if spread:
            screen.print(f"{label}: {in_numbers(spread)}{joint}")
    problems = ", ".join(f"{code} in {terminal.counted(count, 'row')}" for code, count in found.findings.items())
    screen.print(terminal.visible(f"problems: {problems or 'none'}"))
    for note in found.notes:
        screen.print(terminal.visible(f"note: {note}"), soft_wrap=True)
    screen.print(terminal.visible(f"convert it with:\n  {found.command}", lines=True), soft_wrap=True)


def in_splits(splits: Mapping[str, int]) -> str:
    """The splits with their numbers of files."""
    return ", ".join(f"{name}: {terminal.counted(count, 'file')}" for name, count in splits.items())


def in_numbers(spread: Spread) -> str:
    """Smallest, middle and largest in words."""
    if spread.smallest == spread.largest:
        return f"{spread.smallest:,}"
    return f"{spread.smallest:,} to {spread.largest:,}, half of them up to {spread.median:,}"


def short(value: Any) -> str:
    """The beginning of a value, on one line; empty text in quotes, since nothing would be seen of it."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    text = terminal.visible(text)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


@options.takes(
    options.SELECTION,
    options.CHANGES,
    options.TEMPLATE,
    {"to": options.OUTPUT["to"]},
    count=Annotated[str | None, typer.Option("-n", "--rows", help="How many rows; default 3.", metavar="N")],
    json=options.REPORT["json"],
)
@worker_processes()
def preview(source: Sources, **given: Any) -> None:
    """Show rows before and after, with special tokens and trained text marked."""
    from ..pipeline import Scratch
    from ..pipeline.inspection.preview import preview_rows

    count = options.positive("--rows", given.pop("count") or "3")
    recipe, run, _ = to_recipe(source, given)
    with Scratch() as scratch, terminal.looking():
        rows = preview_rows(recipe, count, scratch)
    for row in rows:
        if run.json:
            terminal.print_out(json.dumps({"schema": 1, **asdict(row)}, ensure_ascii=False))
        else:
            print_preview(row)


def print_preview(shown: PreviewRow) -> None:
    """One row before and after, for people; lines are as long as they are, so that a line break is one of the text."""
    from rich.rule import Rule
    from rich.text import Text

    screen = terminal.console()
    screen.print(Rule(Text(f"row {shown.row}{of_many(shown.rows)}"), align="left"))
    before = json.dumps(shown.record, ensure_ascii=False) if shown.raw is None else shown.raw
    screen.print(Text(terminal.visible(before), style="dim"), soft_wrap=True)
    if shown.problem:
        screen.print(Text(f"cannot be converted: {terminal.visible(shown.problem)}", style="bold red"), soft_wrap=True)
    for output in shown.output:
        for name, value in output.items():
            screen.print(Text(f"{name}:", style="bold"))
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
            screen.print(marked(text, shown.spans if name == "text" else None, shown.tokens), soft_wrap=True)
    if shown.spans:
        places = ", ".join(f"{start} to {end}" for start, end in shown.spans)
        green = " (green)" if screen.color_system and not screen.no_color else ""
        screen.print(Text(f"trained{green}: characters {places}", style="bold"), soft_wrap=True)


def of_many(rows: int) -> str:
    """What a heading adds where a conversation is made of several rows."""
    return f", one of the {rows:,} rows that were put together" if rows > 1 else ""


def marked(text: str, spans: Sequence[Sequence[int]] | None, tokens: Sequence[str]) -> Text:
    """The text with trained parts green and the template's control tokens in magenta, made visible."""
    import re

    from rich.text import Text

    trained = [False] * len(text)
    for start, end in spans or ():
        trained[start:end] = [True] * (end - start)
    special = [False] * len(text)
    for found in re.finditer("|".join(map(re.escape, tokens)) or r"(?!)", text):
        special[found.start() : found.end()] = [True] * (found.end() - found.start())
    made, start = Text(), 0
    for (is_trained, is_special), run in groupby(zip(trained, special, strict=True)):
        end = start + sum(1 for _ in run)
        style = ("green " if is_trained else "") + ("bold magenta" if is_special else "")
        made.append(terminal.visible(text[start:end], lines=True), style=style.strip() or "default")
        start = end
    return made


@options.takes(
    options.SELECTION, options.CHANGES, options.TEMPLATE, {"to": options.OUTPUT["to"]}, {"json": options.REPORT["json"]}
)
@worker_processes()
def check(source: Sources, **given: Any) -> None:
    """List every problem that converting the whole data set would meet, by reason, with rows.

    Exit code 1 if a row cannot be converted, or, with --strict, if anything was found at all.
    """
    from ..pipeline import Scratch, cores
    from ..pipeline.inspection.check import check_rows

    recipe, run, _ = to_recipe(source, given)
    with Scratch() as scratch, terminal.looking():
        lenient = dataclasses.replace(recipe, on_error="skip", strict=False)
        troubles, books = check_rows(lenient, scratch, cores())
    rows = len({(trouble.at.file, trouble.at.row) for trouble in troubles})
    if run.json:
        terminal.print_out(json.dumps(to_json(troubles, books.read), ensure_ascii=False))
    else:
        print_troubles(troubles, books.read)
    wrong = [trouble for trouble in troubles if trouble.kind == "error" or trouble.code in recipe.fail_on]
    if wrong or (recipe.strict and troubles):
        raise DataProblem(f"{rows} of {books.read} rows have problems", hint="--on-error skip leaves out what is wrong")


def to_json(troubles: Sequence[RowProblem], rows: int) -> dict[str, Any]:
    """The report for machines."""
    return {
        "schema": 1,
        "rows": rows,
        "counts": dict(Counter(trouble.code for trouble in troubles).most_common()),
        "problems": [
            {
                "code": trouble.code,
                "kind": trouble.kind,
                "file": trouble.at.file,
                "row": trouble.at.row,
                "message": trouble.at.message,
                "line": trouble.at.line,
                "byte": trouble.at.byte,
                "detail": trouble.detail,
            }
            for trouble in troubles
        ],
    }


def print_troubles(troubles: Sequence[RowProblem], rows: int) -> None:
    """The report for people: how often each reason, then where."""
    screen = terminal.console()
    if not troubles:
        screen.print(f"{terminal.counted(rows, 'row')}, no problems")
        return
    kinds = {trouble.code: (trouble.kind, trouble.hint) for trouble in troubles}
    counts = Counter(trouble.code for trouble in troubles).most_common()
    listed = [(c, kinds[c][0], f"{n:,}", kinds[c][1]) for c, n in counts]
    screen.print(terminal.table(("code", "kind", "found", "what helps"), listed, right=(2,)))
    alike: dict[str, dict[tuple[str, str], list[RowProblem]]] = {}
    for trouble in troubles:
        alike.setdefault(trouble.at.file, {}).setdefault((trouble.code, trouble.detail), []).append(trouble)
    for file, kept in alike.items():
        screen.print(terminal.visible(f"in {file}:"), soft_wrap=True)
        shown = [(*key, in_places(several)) for key, several in list(kept.items())[:SHOWN_PROBLEMS]]
        screen.print(terminal.table(("code", "what", "where"), shown))
        if len(kept) > len(shown):
            screen.print(f"… and {len(kept) - len(shown):,} more kinds: --json lists all of them")


def in_places(troubles: Sequence[RowProblem]) -> str:
    """Where problems of one kind are: the first of their rows, and how many more."""
    first = ", ".join(in_file(trouble) for trouble in troubles[:SHOWN_PLACES])
    more = len(troubles) - SHOWN_PLACES
    return f"{first} and {more:,} more" if more > 0 else first


def in_file(trouble: RowProblem) -> str:
    """The row and the turn of a problem, or the line where the row cannot be read."""
    at = trouble.at
    inside = f" message {at.message}" if at.message is not None else f" line {at.line}" if at.line is not None else ""
    return f"row {at.row}{inside}" if at.row is not None else inside.strip() or "the file"
