"""`chatfmt templates`, `recipes`, `transforms` and `verify`: what chatfmt knows, and what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .. import recipe as recipes
from ..errors import DataProblem
from . import show

AsJson = Annotated[bool, typer.Option("--json", help="The report as JSON.")]

templates = typer.Typer(no_args_is_help=True, help="Chat templates: list, show, probe, diff.")
known = typer.Typer(no_args_is_help=True, help="Recipes of known data sets: list, show.")


@templates.command("list")
def list_templates(as_json: AsJson = False) -> None:
    """The built-in templates by name, with their other names and what they support."""
    from ..render import library

    found = [library.find(name) for name in library.names()]
    rows = [
        {"name": one.name, "aliases": list(one.aliases), "family": one.family, "supports": list(one.supports)}
        for one in found
        if one is not None
    ]
    if as_json:
        show.print_out(json.dumps(rows, ensure_ascii=False))
        return
    cells = [(row["name"], ", ".join(row["aliases"]), row["family"], ", ".join(row["supports"])) for row in rows]
    show.console().print(show.table(("name", "other names", "family", "supports"), cells))


@templates.command("show")
def show_template(
    name: Annotated[str, typer.Argument(help="Built-in name, .jinja file, model folder or Hub id.")],
) -> None:
    """The text of a template, highlighted on a terminal."""
    from ..render.template import ChatTemplate

    template = ChatTemplate.load(name)
    for part, text in (template.named or {"": template.text}).items():
        if part:
            show.console().print(f"{{# {show.visible(part)} #}}")
        print_jinja(text)


def print_jinja(text: str) -> None:
    """Jinja in colour on a terminal, as it is in a pipe."""
    import sys

    if not sys.stdout.isatty():
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        return
    from rich.syntax import Syntax

    show.console().print(Syntax(show.visible(text, lines=True), "jinja", background_color="default", word_wrap=True))


@known.command("list")
def list_recipes(as_json: AsJson = False) -> None:
    """The recipes of known data sets."""
    rows = []
    for name in recipes.names():
        values = recipes.load(name).values
        about = values["about"]
        source = values["source"]
        rows.append({"name": name, "source": source, "title": about["title"], "licence": about["licence"],
                     "subsets": about.get("subsets", [])})  # fmt: skip
    if as_json:
        show.print_out(json.dumps(rows, ensure_ascii=False))
        return
    cells = [(row["name"], row["source"], row["licence"], row["title"]) for row in rows]
    show.console().print(show.table(("name", "data set", "licence", "title"), cells))


@known.command("show")
def show_recipe(name: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file.")]) -> None:
    """A recipe as it is written, checked."""
    layer = recipes.load(name)
    recipes.build([layer])
    path = Path(name) if name.endswith((".yaml", ".yml")) else recipes.configs() / f"{name}.yaml"
    show.print_out(path.read_text(encoding="utf-8").rstrip("\n"))


def list_transforms() -> None:
    """The changes that --transform NAME=VALUE makes, in the order in which they are made."""
    from ..transforms import TRANSFORMS

    rows = [(name, transform.values, transform.summary) for name, transform in TRANSFORMS.items()]
    show.console().print(show.table(("name", "values", "what it changes"), rows))


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that chatfmt wrote.")], as_json: AsJson = False
) -> None:
    """Compare every byte and count of an output folder with its manifest; exit code 1 for any difference."""
    from .. import manifest

    problems = manifest.verify(folder)
    if as_json:
        found = [{"code": problem.code, "path": problem.path, "message": problem.message} for problem in problems]
        show.print_out(json.dumps({"schema": 1, "problems": found}, ensure_ascii=False))
    if problems:
        raise DataProblem(f"{folder}: " + "; ".join(map(str, problems)), hint="convert again with --overwrite")
    if not as_json:
        shards = manifest.read_manifest(folder).shards
        rows = sum(shard.rows for shard in shards)
        show.print_out(f"{folder}: {rows:,} rows in {len(shards)} shard(s), every byte as it was written")
