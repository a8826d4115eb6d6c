"""`chatfmt preview`: rows before and after conversion, as record, as messages and as the text that a model reads."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import asdict

from ...errors import Location, UsageError
from .. import options, terminal
from ..options import Sources
from ..requests import to_recipe
from ..values import whole_number
from ..workers import reading_in_workers

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from ...pipeline.inspection.preview import Choice, PreviewRow
    from ...pipeline.inspection.report.rows import Piece

WIDE = 110
"""Columns of a terminal from which two panes fit side by side."""
FOLDED = 800
"""Characters of a value from which its middle is counted instead of shown."""
ROLES = {"user": "bold blue", "assistant": "bold green", "tool": "bold yellow"}
STYLES = {0: "default", 1: "green", 2: "bold magenta", 3: "bold magenta underline", 4: "dim italic"}
"""The styles of the pieces of a text by kind; see `pipeline.inspection.report.rows`."""


class Look(Struct, frozen=True):
    """The ways to show rows: with marks for white space, in full, in two panes, in colour."""

    white: bool = False
    full: bool = False
    panes: bool = False
    coloured: bool = False
    source: str = ""
    """The source as the user named it; the name of any other file stands before its rows."""

    @property
    def limit(self) -> int:
        return sys.maxsize // 4 if self.full else FOLDED


@options.declare(
    options.SELECTION,
    options.CHANGES,
    options.TEMPLATE,
    options.VIEW,
    options.SHOWN,
    count=options.value("N", "Number of rows; default: 3.", "-n", "--rows"),
    row=options.value(
        "N", "Show the row with this number, counted from 0 as in errors. Repeatable.", "--row", many=True
    ),
    sample=options.value("N", "Show N rows chosen at random; --seed chooses others.", "--sample"),
    explain=options.flag("--explain", "Show what each message is made of and which transforms changed it."),
    diff_template=options.value("B", "Show the text beside that of another template.", "--diff-template"),
    show_whitespace=options.flag("--show-whitespace", "Show spaces as · and line ends as ↵."),
    full=options.flag("--full", "Show long values in full."),
    html=options.value("FILE", "Write a page to browse the rows instead of printing them.", "--html"),
    overwrite=options.RUN["overwrite"],
    json=options.REPORT["json"],
)
@reading_in_workers
def preview(source: Sources, **given: Any) -> None:
    """Show rows before and after conversion, with special tokens and trained text marked."""
    from ...pipeline import Scratch
    from ...pipeline.inspection.preview import preview_rows
    from .report import check_page

    own = {key: given.pop(key) for key in
           ("count", "row", "sample", "explain", "diff_template", "show_whitespace", "full", "html")}  # fmt: skip
    recipe, run, _ = to_recipe(source, given)
    page = check_page(own["html"], overwrite=run.overwrite) if own["html"] is not None else None
    choice = to_choice(own, recipe.seed)
    with Scratch() as scratch, terminal.spinner():
        rows = preview_rows(recipe, choice, scratch)
        other = own["diff_template"]
        if other is not None:
            if recipe.template is None:
                raise UsageError("`--diff-template` compares two templates", hint="-t chatml")
            others = preview_rows(to_recipe(source, {**given, "template": [other]})[0], choice, scratch)
    look = to_look(own, recipe.source[0].source)
    if run.json:
        for row in rows:
            terminal.print_json({"schema": 1, **asdict(row)})
    elif page is not None:
        write_browser(page, recipe.source[0].source, rows)
    elif other is not None:
        print_differences(rows, others, (str(recipe.template), other), look)
    else:
        print_rows(rows, look)


def to_choice(own: Mapping[str, Any], seed: int) -> Choice:
    """Return the rows that the options choose; raises UsageError for options that exclude each other."""
    from ...pipeline.inspection.preview import Choice

    if sum(bool(own[key]) for key in ("count", "row", "sample")) > 1:
        raise UsageError("`--rows`, `--row` and `--sample` cannot be combined", hint="--sample 5")
    count = at_least("--rows", own["count"], 1) or 3
    sample = at_least("--sample", own["sample"], 1)
    rows = tuple(at_least("--row", text, 0) for text in own["row"] or ())
    return Choice(count, rows, sample, seed, bool(own["explain"]))


def at_least(flag: str, text: str | None, least: int) -> int:
    """Return the number given to a flag, 0 without it; raises UsageError for a smaller one."""
    if text is None:
        return 0
    number = whole_number(flag, text)
    if not least <= number <= sys.maxsize:
        kind = "positive integer" if least else "number of a row"
        raise UsageError(f"`{flag}` must be a {kind}, not `{text}`", hint=f"{flag} 2")
    return number


def to_look(own: Mapping[str, Any], source: str) -> Look:
    """Return how rows of a source are shown: in panes where the terminal is wide enough."""
    screen = terminal.console()
    coloured = bool(screen.color_system) and not screen.no_color
    return Look(
        bool(own["show_whitespace"]), bool(own["full"]), screen.is_terminal and screen.width >= WIDE, coloured, source
    )


def write_browser(page: Path, source: str, rows: Sequence[PreviewRow]) -> None:
    """Write the page to browse rows."""
    from ...pipeline.inspection.report.page import render_page, write_page
    from .report import print_page_size

    print_page_size(page, write_page(page, render_page(f"Rows of {source}", [], [(row, ()) for row in rows])))


def print_rows(rows: Sequence[PreviewRow], look: Look) -> None:
    """Print rows one after the other, and what the colours mean."""
    screen = terminal.console()
    for row in rows:
        print_record(screen, row, look)
        print_output(screen, row, look)
        if row.origins:
            screen.print(_text(terminal.visible(f"read as {row.dialect}"), "bold"), soft_wrap=True)
            screen.print(origins_table(row))
        ranges = ", ".join(f"{start} to {end}" for start, end in row.spans or ())
        if trained := f"characters {ranges}" if ranges else row.no_spans if not row.problem else "":
            screen.print(
                _text(f"trained{' (green)' if look.coloured and ranges else ''}: {trained}", "bold"), soft_wrap=True
            )
    if look.coloured and any(row.tokens for row in rows):
        screen.print(legend(look, trained=any(row.spans for row in rows)))
    if screen.is_terminal and not look.panes and any(row.tokens and row.conversations for row in rows):
        screen.print(_text(f"a terminal of {WIDE} columns shows messages and text side by side", "dim"))


def print_record(screen: Console, row: PreviewRow, look: Look) -> None:
    """Print the number of a row, its record, and why it cannot be converted."""
    from rich.rule import Rule

    file = "" if row.file in ("", look.source) else f"{row.file} "
    heading = f"{file}{Location(row=row.row, line=row.line).place}{one_of(row.rows)}"
    screen.print(Rule(_text(terminal.visible(heading)), align="left"))
    before = json.dumps(shortened(row.record, look.limit), ensure_ascii=False) if row.raw is None else row.raw
    screen.print(_text(terminal.visible(before), "dim"), soft_wrap=True)
    if row.problem:
        screen.print(_text(f"cannot be converted: {terminal.visible(row.problem)}", "bold red"), soft_wrap=True)
    elif not row.output:
        screen.print(_text("filtered out: nothing is written for this row", "bold"), soft_wrap=True)


def one_of(rows: int) -> str:
    """Return what a heading adds for a conversation made of several rows."""
    return f", one of the {rows:,} rows of this conversation" if rows > 1 else ""


def shortened(value: Any, limit: int, key: str = "") -> Any:
    """Return a value with the ends of long texts, and lists of tools, counted instead of shown."""
    if isinstance(value, str):
        rest = len(value) - limit
        return value if rest <= 40 else f"{value[:limit]}… {rest:,} characters"
    if isinstance(value, Mapping):
        return {name: shortened(item, limit, str(name)) for name, item in value.items()}
    if are_ids(value) and len(value) > min(2 * IDS, limit):
        return [*value[:IDS], f"… {len(value) - IDS:,} more"]
    if isinstance(value, list):
        folded = summary_of_tools(value) if key == "tools" and len(json.dumps(value)) > limit // 4 else ""
        return folded or [shortened(item, limit) for item in value]
    return value


IDS = 50
"""The first numbers shown of a long list of them."""


def are_ids(value: Any) -> bool:
    """Return whether a value is a list of numbers, such as token ids, which fit on one line."""
    return isinstance(value, list) and all(isinstance(item, (int, float)) for item in value)


def summary_of_tools(tools: Sequence[Any]) -> str:
    """Return the names of tools; empty if one of them has none."""
    specs = [tool.get("function", tool) for tool in tools if isinstance(tool, dict)]
    names = [spec.get("name") for spec in specs if isinstance(spec, dict)]
    if not names or len(names) < len(tools) or not all(isinstance(name, str) for name in names):
        return ""
    return f"… {terminal.counted(len(names), 'tool')}: {', '.join(map(str, names))}"


def print_output(screen: Console, row: PreviewRow, look: Look) -> None:
    """Print messages and text, side by side or one after the other, then what is beside them."""
    for number, output in enumerate(row.output):
        said = row.conversations[min(number, len(row.conversations) - 1)] if row.conversations else {}
        turns = {
            name: lines
            for name in {**said, **output}
            if (lines := turns_of(output.get(name)) or turns_of(said.get(name)))
        }
        texts = {name: value for name, value in output.items() if isinstance(value, str)}
        others = {name: value for name, value in output.items() if name not in turns and name not in texts}
        right = list(rendered_texts(texts, row, look))
        if right and not row.origins and not look.panes:  # the text holds the messages too
            turns = {name: lines for name, lines in turns.items() if name in output}
        left = list(message_texts(turns, said, look)) if turns else []
        if look.panes and left and right:
            screen.print(panes(("messages", "text"), (_group(left, len(turns)), _group(right, len(texts)))))
        else:
            for each in (*left, *right):
                screen.print(each, soft_wrap=True)
        for name, value in others.items():
            if name == "tools" and left and not look.full:  # they are named below the messages
                continue
            screen.print(_text(f"{name}:", "bold"))
            indent = None if are_ids(value) else 1
            text = json.dumps(shortened(value, look.limit, name), ensure_ascii=False, indent=indent)
            screen.print(_text(terminal.visible(text, lines=True)), soft_wrap=True)


def turns_of(value: Any) -> list[Mapping[str, Any]]:
    """Return a value that is a list of messages; none for any other."""
    is_list = isinstance(value, list) and all(isinstance(turn, dict) and "role" in turn for turn in value)
    return value if is_list else []


def message_texts(
    turns: Mapping[str, Sequence[Mapping[str, Any]]], said: Mapping[str, Any], look: Look
) -> Iterator[Text]:
    """Yield the name of each list of messages and its messages, then the names of the tools."""
    for name, messages in turns.items():
        yield _text(f"{name}:", "bold")
        for message in messages:
            role, made = str(message["role"]), _text("")
            made.append(terminal.visible(role), style=ROLES.get(role, "bold"))
            for key, value in message.items():
                if key == "role" or value is None:
                    continue
                made.append("\n" if key == "content" else f"\n{terminal.visible(key)}: ", style="dim")
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                append(made, text, "default", look)
            yield made
    if isinstance(tools := said.get("tools"), list) and tools and "tools" not in turns:
        folded = summary_of_tools(tools) or json.dumps(shortened(tools, look.limit), ensure_ascii=False)
        yield _text("").append("tools: ", style="bold").append(terminal.visible(folded), style="dim")


def rendered_texts(texts: Mapping[str, str], row: PreviewRow, look: Look) -> Iterator[Text]:
    """Yield the name of each column of text, and the text with its marks."""
    for name, text in texts.items():
        yield _text(f"{terminal.visible(name)}:", "bold")
        yield marked(text, row.spans if name == row.text else None, row.tokens, look)


def marked(text: str, spans: Sequence[Sequence[int]] | None, tokens: Sequence[str], look: Look | None = None) -> Text:
    """Return the text, made visible, with trained parts in green and the template's control tokens in magenta."""
    from ...pipeline.inspection.report.rows import pieces

    look, made = look or Look(full=True), _text("")
    for kind, piece in pieces(text, spans or (), tokens):
        append(made, piece, STYLES[kind], look)
    return made


def append(made: Text, text: str, style: str, look: Look) -> None:
    """Append a text with its middle folded if it is long, and with marks for white space if they are asked for."""
    from ...pipeline.inspection.report.rows import FOLDED as IS_FOLDED
    from ...pipeline.inspection.report.rows import fold

    folded: list[Piece] = fold([(0, text)], look.limit)
    for kind, part in folded:
        shown = terminal.visible(part, lines=True)
        if kind == IS_FOLDED:
            made.append(shown, style=STYLES[kind])
        elif not look.white:
            made.append(shown, style=style)
        else:
            for run in re.split(r"([ \t]+|\n)", shown):
                blank = run.replace(" ", "·").replace("\t", "→\t").replace("\n", "↵\n")
                made.append(blank, style=f"{style} dim" if run != blank else style)


def origins_table(row: PreviewRow) -> Table:
    """Return what each message is made of."""
    rows = [
        (f"{one.column} {one.message}", one.role, one.made_of or "no text of the row",
         f"role from `{one.named}`" if one.named else "", ", ".join(one.changed_by))
        for one in row.origins
    ]  # fmt: skip
    return terminal.table(("message", "role", "made of", "", "changed by"), rows)


def print_differences(
    rows: Sequence[PreviewRow], others: Sequence[PreviewRow], names: tuple[str, str], look: Look
) -> None:
    """Print the texts of two templates: side by side on a wide terminal, else as a unified diff."""
    screen = terminal.console()
    for row, other in zip(rows, others, strict=True):
        print_record(screen, row, look)
        if other.problem and other.problem != row.problem:
            problem = f"cannot be converted with {names[1]}: {other.problem}"
            screen.print(_text(terminal.visible(problem), "bold red"), soft_wrap=True)
        for one, two in zip(row.output, other.output, strict=False):
            for name in (name for name in one if isinstance(one[name], str) and isinstance(two.get(name), str)):
                if look.panes:
                    sides = (
                        marked(one[name], row.spans, row.tokens, look),
                        marked(two[name], other.spans, other.tokens, look),
                    )
                    screen.print(panes(names, sides))
                else:
                    print_unified(screen, one[name], two[name], names)


def print_unified(screen: Console, one: str, two: str, names: tuple[str, str]) -> None:
    """Print a unified diff of two texts, or that they are the same."""
    if one == two:
        screen.print("the same text")
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in difflib.unified_diff(one.split("\n"), two.split("\n"), *names, lineterm="", n=100):
        screen.print(_text(terminal.visible(line, lines=True), styles.get(line[:1], "default")), soft_wrap=True)


def panes(titles: tuple[str, str], sides: tuple[RenderableType, RenderableType]) -> Table:
    """Return two panes side by side."""
    from rich.box import MINIMAL
    from rich.table import Table

    made = Table(box=MINIMAL, expand=True, pad_edge=False)
    for title in titles:
        made.add_column(_text(terminal.visible(title), "bold"), ratio=1, overflow="fold")
    made.add_row(*sides)
    return made


def legend(look: Look, *, trained: bool) -> Text:
    """Return what the marks mean."""
    made = _text("").append("legend: ", style="dim")
    names = {1: "trained", 2: "special token", 3: "trained special token", 4: "… folded … (--full)"}
    for kind, name in names.items():
        if kind not in (1, 3) or trained:
            made.append(name, style=STYLES[kind]).append("  ")
    return made.append("· space  ↵ line end" if look.white else "", style="dim")


def _group(texts: Sequence[Text], columns: int) -> RenderableType:
    """Return the texts below each other, without the name of a column that is the only one."""
    from rich.console import Group

    return Group(*texts[1 if columns == 1 else 0 :])


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style=style)
