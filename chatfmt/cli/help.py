"""Commands whose help names every option in full, in sections, at any width: tables cut long names off.

They start sooner than Typer's own, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from typer.core import TyperCommand, TyperGroup

_NUMBER = re.compile("[0-9]{1,18}")


class Quick:
    """Parameters that are not there, are text already or a plain number, without the way through Typer's validators.

    Typer makes one of pydantic for each parameter, typed or not, and imports pydantic for that (0.15 s).
    """

    get_params: Callable[[Any], list[Any]]

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Read the arguments."""
        for parameter in self.get_params(ctx):
            if "process_value" not in vars(parameter):
                vars(parameter)["process_value"] = partial(_processed, parameter, parameter.process_value)
        return super().parse_args(ctx, args)  # type: ignore[misc]


def _processed(parameter: Any, process: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    many = parameter.multiple or parameter.nargs == -1
    type = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    if value is None and not parameter.required:
        value = () if many else None
        return value if parameter.callback is None else parameter.callback(ctx, parameter, value)
    if parameter.callback is not None or not value:
        return process(ctx, value)
    if type is int and _NUMBER.fullmatch(value):
        return int(value)
    return (list(value) if many else value) if type in (str, list[str]) else process(ctx, value)


class Group(Quick, TyperGroup):
    """A group of commands."""


PLAIN: dict[str, Any] = {"rich_markup_mode": None, "cls": Group}
"""What an app is made with, so that its commands show their help in this way."""


class Command(Quick, TyperCommand):
    """A command whose options stand under the headings of their groups, and whose arguments are called as we say."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the name of the command in its usage line."""
        arguments = [each for each in self.get_params(ctx) if each.param_type_name == "argument"]
        return ["[OPTIONS]", *map(_called, arguments)]

    def get_short_help_str(self, limit: int = 45) -> str:
        """The first paragraph of the help, whole, whatever the `limit`."""
        return " ".join((self.help or "").split("\n\n")[0].split())

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each group of options in the order of the command, those of no group last."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            if callable(parameter.metavar):
                parameter.metavar, parameter.help = parameter.metavar()
            if parameter.param_type_name == "argument":
                sections["Arguments"].append((_called(parameter), getattr(parameter, "help", None) or ""))
            elif record := parameter.get_help_record(ctx):
                panel = getattr(parameter, "rich_help_panel", None)
                (sections.setdefault(panel, []) if panel else others).append(record)
        for title, records in {**sections, "Other": others}.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _called(argument: Any) -> str:
    """The name of an argument in help."""
    return str(argument.metavar or argument.name.upper())
