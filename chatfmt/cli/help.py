"""Help that names every option in full, in sections, at any width: tables with a column a kind cut long names off."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

PLAIN: dict[str, Any] = {"rich_markup_mode": None}
"""What an app is made with, so that its commands show their help in this way."""


class Command(TyperCommand):
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
