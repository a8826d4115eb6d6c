"""Commands that start fast, and whose help shows the options that most people use, or with `--help-all` every option.

Typer validates every value, typed or not, with pydantic, and importing that takes 0.15 s. Text and flags need no
validator; numbers and paths are read from the text later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from shutil import get_terminal_size
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..errors import UsageError
from .options import COMMON, REGISTRY_HELP, default_of

HELP_ALL = "--help-all"
ALIASES = {"--output": "--out", "--subset": "--name", "--num-proc": "--workers", "--num_proc": "--workers"}
"""Names that other tools have for options, accepted as well."""
ELSEWHERE = (
    "Every option is also a key of a recipe file (rows_per_shard: 1000), an environment variable "
    "(CHATFMT_ROWS_PER_SHARD=1000) and a key of the configuration file. `chatfmt doctor` shows where that is."
)
_SETTING = re.compile(r"[a-z_]+=")
FEW = 10
"""Options that a command may have besides the COMMON ones and its own before its help folds them."""


NARROWEST, WIDEST = 30, 120
"""Columns of help at least, and at most."""
_UNBROKEN = re.compile(r"-|`[^`]*`|'[^']*'|(?<=\w)\([^)]*\)")
_NO_BREAK = str.maketrans("- ", "\u2011\u00a0")
_BREAK = str.maketrans("\u2011\u00a0", "- ")


class Formatter(typer.Context.formatter_class):  # type: ignore[misc, valid-type]
    """Writes help whose lines break neither at hyphens nor inside quoted text and calls."""

    def write(self, string: str) -> None:
        super().write(string.translate(_BREAK))

    def write_text(self, text: str) -> None:
        super().write_text(_unbroken(text))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        narrow = min(col_max, self.width * 2 // 5)
        super().write_dl([(name, _unbroken(text)) for name, text in rows], narrow, col_spacing)


def _unbroken(text: str) -> str:
    return _UNBROKEN.sub(lambda found: found[0].translate(_NO_BREAK), text)


class Context(typer.Context):
    """A call of a command, whose help is as wide as the terminal, up to WIDEST columns."""

    formatter_class = Formatter

    def __init__(self, *given: Any, **named: Any) -> None:
        width = max(NARROWEST, min(WIDEST, get_terminal_size().columns) - 2)
        super().__init__(*given, **{"terminal_width": width, **named})


class Group(TyperGroup):
    """A group of commands."""

    context_class = Context

    def get_help_option(self, ctx: Any) -> Any:
        """Return the `--help` flag, off unless typed: an unset flag would be validated."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; for completion as they are, for then an unset flag would be validated too."""
        if not ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        parser = self.make_parser(ctx)
        _, rest, _ = parser.parse_args(args=list(args))
        ctx._opt_prefixes.update(parser._opt_prefixes)
        ctx._protected_args, ctx.args = rest[:1], rest[1:]
        return rest[1:]


class Command(TyperCommand):
    """A command whose parameters are text and flags."""

    context_class = Context

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments as they are, also for completion; leave help and mistakes to Typer.

        `--fit NAME=VALUE` means `--fit --transform NAME=VALUE`.
        """
        args = [
            ALIASES.get(name, name) + equals + value
            for name, equals, value in (each.partition("=") for each in _expanded(args))
        ]
        if HELP_ALL in args:
            ctx.meta[HELP_ALL], args = True, ["--help"]
        if HELP_ALL in ctx.meta or (self.no_args_is_help and not args and not ctx.resilient_parsing):
            return super().parse_args(ctx, args)
        values, rest, order = self.make_parser(ctx).parse_args(args=list(args))
        if ctx.resilient_parsing:
            ctx.params.update(values)
            ctx.args = rest
            return rest
        _refuse_repeated(order)
        given = {each.name: each for each in order if isinstance(values[each.name], (str, bool, list, tuple))}
        missing = any(each.required and each.name not in given for each in self.get_params(ctx))
        if rest or missing or any(each.callback for each in given.values()):
            return super().parse_args(ctx, args)
        untyped = {each.name: each.default for each in self.get_params(ctx) if each.expose_value}
        ctx.params.update(untyped | {name: values[name] for name in given})
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the name of the command in its usage line."""
        arguments = [each for each in self.get_params(ctx) if each.param_type_name == "argument"]
        return ["[OPTIONS]", *map(_display_name, arguments)]

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first paragraph of the help, uncut whatever the `limit`."""
        return " ".join((self.help or "").split("\n\n")[0].split())

    @property
    def every_option(self) -> str:
        """The flag that shows all options."""
        return HELP_ALL if sum(map(_is_folded, self.params)) > FEW else "--help"

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the command's own options, then each group of options in the order of the command."""
        every = HELP_ALL in ctx.meta or self.every_option != HELP_ALL
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        others: list[tuple[str, str]] = []
        parameters: list[Any] = self.get_params(ctx)
        for parameter in sorted(parameters, key=lambda each: getattr(each, "rich_help_panel", None) is not None):
            if parameter.param_type_name == "argument":
                sections["Arguments"].append((_display_name(parameter), getattr(parameter, "help", None) or ""))
            elif (every or not _is_folded(parameter)) and (record := _record(parameter, ctx)):
                panel = getattr(parameter, "rich_help_panel", None)
                title = panel if panel and every else "Options"
                (others if parameter.name == "help" else sections.setdefault(title, [])).append(record)
        if not every:
            others.append((HELP_ALL, "Show every option and exit."))
        for title, records in {**sections, "Other": others}.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, one per line; after all options, where else they can be set."""
        if self.epilog:
            with formatter.section("Examples"):
                for example in self.epilog.splitlines():
                    formatter.write(f"  {example}\n")
        if HELP_ALL in ctx.meta:
            formatter.write_paragraph()
            formatter.write_text(ELSEWHERE)


def _refuse_repeated(order: Sequence[Any]) -> None:
    """Raise UsageError if an option that has one value was given twice; of flags, the last counts."""
    single = [each for each in order if each.param_type_name == "option" and not each.is_flag and not each.multiple]
    again = next((each for each in single if single.count(each) > 1), None)
    if again is not None:
        raise UsageError(f"`{again.opts[0]}` was given {single.count(again)} times", hint="it takes one value")


def _expanded(arguments: Iterable[str]) -> Iterator[str]:
    before = ""
    for argument in arguments:
        if before == "--fit" and _SETTING.match(argument):
            yield "--transform"
        yield argument
        before = argument


def _is_folded(parameter: Any) -> bool:
    """Return whether only `--help-all` shows the option, if the command has many."""
    return getattr(parameter, "rich_help_panel", None) is not None and parameter.name not in COMMON


def _record(parameter: Any, ctx: Any) -> tuple[str, str] | None:
    """Return an option as help shows it, with its default."""
    if parameter.name in REGISTRY_HELP:
        parameter.metavar, parameter.help = REGISTRY_HELP[parameter.name]()
    found: tuple[str, str] | None = parameter.get_help_record(ctx)
    default = default_of(parameter.name)
    return (found[0], f"{found[1]} [default: {default}]") if found and default else found


def _display_name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())
