"""`chatfmt guide`: the guides, in the terminal."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Annotated, Any

import typer

from ...errors import UnknownName
from .. import terminal
from ..completion import completer


def topics() -> dict[str, str]:
    """Return the topics in alphabetical order, each with the title of its guide."""
    found = {}
    for file in sorted(files("chatfmt").joinpath("guides").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".md"):
            with file.open(encoding="utf-8") as lines:
                found[file.name.removesuffix(".md")] = next(lines).removeprefix("# ").strip()
    return found


def guide(
    topic: Annotated[
        str | None,
        typer.Argument(metavar="[TOPIC]", help="A topic; default: list all.", autocompletion=completer("topic")),
    ] = None,
) -> None:
    """Read a guide in the terminal, or list the topics."""
    known = topics()
    if topic is None:
        terminal.console().print(terminal.table(("topic", "guide"), known.items()))
        return
    if topic not in known:
        raise UnknownName.of("topic", topic, known)
    text = files("chatfmt").joinpath("guides", f"{topic}.md").read_text(encoding="utf-8")
    screen = terminal.console()
    if not screen.is_terminal:
        terminal.print_out(without_comments(text).rstrip("\n"))
        return
    from rich.markdown import Markdown, TableElement

    class FoldedTable(TableElement):  # rich would cut the words of narrow columns, also the names of rows
        def __rich_console__(self, *given: Any) -> Any:
            table: Any
            for table in super().__rich_console__(*given):
                for column in table.columns:
                    column.overflow, column.no_wrap = "fold", column is table.columns[0]
                yield table

    Markdown.elements = {**Markdown.elements, "table_open": FoldedTable}
    screen.print(Markdown(without_comments(text)))


def without_comments(text: str) -> str:
    """Return Markdown without the lines that mark what tests check, and with what pictures show instead of them."""
    text = re.sub(r"^!\[(.*)\]\(.*\)$", r"*[\1]*", text, flags=re.MULTILINE)
    return "\n".join(line for line in text.splitlines() if not line.startswith("<!--"))
