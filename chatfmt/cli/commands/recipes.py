"""`chatfmt recipes`: list and show the recipes of known datasets."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import terminal
from ..command_class import Command, Group
from ..completion import completer
from ..options import AsJson

recipes = typer.Typer(
    no_args_is_help=True, help="Recipes of known datasets: list, show.", cls=Group, rich_markup_mode=None
)


@recipes.command("list", cls=Command)
def list_recipes(
    wide: Annotated[bool, typer.Option("--wide", help="Also show the datasets and their licences.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the recipes of known datasets, logs and exports."""
    from ... import recipe

    rows = []
    for name in recipe.names():
        values = recipe.load(name).values
        about = values["about"]
        rows.append({"name": name, "source": values["source"], "title": about["title"], "licence": about["licence"],
                     "subsets": about.get("subsets", [])})  # fmt: skip
    if as_json:
        terminal.print_json(rows)
        return
    if not wide:
        titles = [(row["name"], row["title"]) for row in rows]
        terminal.print_out(terminal.aligned([("name", "title"), *titles], cut=1))
        return
    cells = [(row["name"], row["source"], row["licence"], row["title"]) for row in rows]
    terminal.console().print(terminal.table(("name", "dataset", "licence", "title"), cells))


@recipes.command("show", cls=Command)
def show_recipe(
    name: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file.", autocompletion=completer("recipe"))],
) -> None:
    """Check a recipe and print its file."""
    from ... import recipe

    recipe.build([recipe.load(name)])
    terminal.print_out(recipe.path_of(name).read_text(encoding="utf-8").rstrip("\n"))
