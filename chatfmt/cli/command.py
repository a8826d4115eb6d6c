"""Commands that start fast, and whose help shows every option in full under the heading of its group.

Typer validates every value, typed or not, with pydantic, and importing that takes 0.15 s. Text and flags need no
validator; numbers and paths are read from the text later.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from .options import REGISTRY_HELP


class Group(TyperGroup):
    """A group of commands."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return the `--help` flag, off unless typed: an unset flag would be validated."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option


class Command(TyperCommand):
    """A command whose parameters are text and flags."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments as they are; leave help, completion and mistakes to Typer."""
        if ctx.resilient_parsing or (self.no_args_is_help and not args):
            return super().parse_args(ctx, args)
        values, rest, order = self.make_parser(ctx).parse_args(args=list(args))
        given = {each.name: each for each in order if isinstance(values[each.name], (str, bool, list, tuple))}
        missing = any(each.required and each.name not in given for each in self.get_params(ctx))
        if rest or missing or any(each.callback for each in given.values()):
            return super().parse_args(ctx, args)
        ctx.params.update({name: values[name] for name in given})
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the name of the command in its usage line."""
        arguments = [each for each in self.get_params(ctx) if each.param_type_name == "argument"]
        return ["[OPTIONS]", *map(_display_name, arguments)]

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first paragraph of the help, uncut whatever the `limit`."""
        return " ".join((self.help or "").split("\n\n")[0].split())

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each group of options in the order of the command; ungrouped options come last."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        others: list[tuple[str, str]] = []
        parameters: list[Any] = self.get_params(ctx)
        for parameter in parameters:
            if parameter.name in REGISTRY_HELP:
                parameter.metavar, parameter.help = REGISTRY_HELP[parameter.name]()
            if parameter.param_type_name == "argument":
                sections["Arguments"].append((_display_name(parameter), getattr(parameter, "help", None) or ""))
            elif record := parameter.get_help_record(ctx):
                panel = getattr(parameter, "rich_help_panel", None)
                (sections.setdefault(panel, []) if panel else others).append(record)
        for title, records in {**sections, "Other": others}.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _display_name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())
