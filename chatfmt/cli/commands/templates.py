"""`chatfmt templates`: list, show, probe, tag, audit and compare chat templates."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import UnknownName, UsageError
from .. import options, terminal
from ..command_class import Command, Group
from ..completion import completer
from ..options import AsJson
from ..requests import to_recipe
from ..values import to_values
from ..workers import worker_processes

if TYPE_CHECKING:
    from ...render.inspection.diff import Difference
    from ...render.inspection.probe_card import ProbeCard
    from ...render.template.builtin import Builtin
    from ...render.template.chat_template import ChatTemplate

templates = typer.Typer(
    no_args_is_help=True,
    help="Chat templates: list, show, probe, train, audit, diff.",
    cls=Group,
    rich_markup_mode=None,
)

Name = Annotated[
    str,
    typer.Argument(
        help="Built-in name, .jinja file, model folder or Hub model id.", autocompletion=completer("template")
    ),
]


@templates.command("list", cls=Command)
def list_templates(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORD]...", help="Only templates with these words in name, aliases or family."),
    ] = None,
    supports: Annotated[
        list[str] | None,
        typer.Option(
            "--supports",
            metavar="FEATURE",
            help="Only templates that support this: tools, images, ….",
            autocompletion=completer("supports"),
        ),
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Also show aliases, variables and all features.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the built-in templates, and whether they render system messages, tools and reasoning.

    Under `tools`, `calls` means calls without the list of tools, `list` the list without calls.
    """
    found = find_builtins(words or [], supports or [])
    if as_json:
        terminal.print_json([as_row(one) for one in found])
    elif wide:
        titles = ("name", "aliases", "family", "supports", "variables")
        cells = [(one.name, *map(", ".join, (one.aliases, [one.family], one.supports, one.variables))) for one in found]
        terminal.console().print(terminal.table(titles, cells))
    else:
        lines = [(one.name, one.family, *marks(one.supports)) for one in found]
        terminal.print_out(terminal.aligned([("name", "for", "system", "tools", "reasoning"), *lines], cut=1))


def find_builtins(words: list[str], supports: list[str]) -> list[Builtin]:
    """Return the built-in templates that have all the words and features; raises UsageError if none has."""
    from ...render.template import builtin

    for feature in supports:
        if feature not in builtin.SUPPORTS:
            raise UnknownName.of("feature of templates", feature, builtin.SUPPORTS)
    found = [
        one
        for one in filter(None, map(builtin.find, builtin.names()))
        if set(supports) <= set(one.supports)
        and all(word.lower() in " ".join((one.name, *one.aliases, one.family)).lower() for word in words)
    ]
    if not found:
        asked = " and ".join(f"`{word}`" for word in [*words, *supports])
        raise UsageError(f"no built-in template has {asked}", hint="`chatfmt templates list` shows all of them")
    return found


def as_row(one: Builtin) -> dict[str, Any]:
    """Return a built-in template as a row of `--json`."""
    lists = {key: list(getattr(one, key)) for key in ("aliases", "supports", "variables")}
    return {"name": one.name, "family": one.family, **lists}


def marks(supports: Sequence[str]) -> tuple[str, str, str]:
    """Return what a template renders of system messages, tools and reasoning: `yes`, nothing, or which part."""
    tools = {(True, True): "yes", (True, False): "list", (False, True): "calls"}
    return (
        "yes" if "system" in supports else "",
        tools.get(("tools" in supports, "calls" in supports), ""),
        "yes" if "reasoning" in supports else "",
    )


@templates.command("show", cls=Command)
def show_template(
    name: Name, program: Annotated[bool, typer.Option("--program", help="Show the compiled program instead.")] = False
) -> None:
    """Show the text of a template, highlighted on a terminal, or its compiled programs."""
    from ...render.template.chat_template import ChatTemplate

    template = ChatTemplate.load(name)
    if program:
        print_programs(template)
        return
    for part, text in (template.named or {"": template.text}).items():
        if part:
            terminal.console().print(f"{{# {terminal.visible(part)} #}}")
        print_jinja(text)


def print_jinja(text: str) -> None:
    """Print Jinja: highlighted on a terminal, unchanged in a pipe."""
    terminal.check_stdout()
    if not sys.stdout.isatty():
        terminal.print_out(text.removesuffix("\n"))
        return
    from rich.syntax import Syntax

    code = Syntax("", "jinja", background_color="default").highlight(terminal.visible(text, lines=True))
    terminal.console().print(code, soft_wrap=True, end="")  # unwrapped, to be copied


def print_programs(template: ChatTemplate) -> None:
    """Print the literals and slots of the text of each ordinary kind of conversation."""
    from ...pipeline.inspection.compare import compile_programs
    from ...render import RenderOptions

    for title, program in compile_programs(template, RenderOptions()):
        terminal.print_out(terminal.visible(f"{title}:"))
        terminal.print_out("\n".join(f"  {terminal.visible(line)}" for line in program.splitlines()))


@templates.command("probe", cls=Command)
def probe_template(
    name: Name,
    var: Annotated[
        list[str] | None, typer.Option("--var", metavar="KEY=VALUE", help="Template variable, a JSON value.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a template handles system messages, tools, reasoning etc., and the flags to use with it."""
    from ...render import sandbox_sessions
    from ...render.inspection.probe import probe
    from ...render.sandbox.limits import FOR_SAMPLES
    from ...render.tagging.tagger import with_stand_ins

    template = load_compiled(name)
    if template.origin in ("file", "inline"):  # which define no tokens
        template = with_stand_ins(template)
    sessions = sandbox_sessions(template, "auto", limits=FOR_SAMPLES)
    card = probe(template, to_values({"var": var}).get("var", {}), sessions)
    if as_json:
        terminal.print_json({"schema": 1, **card.as_json()})
        return
    print_findings(card)
    rows = [(key.replace("_", " "), show_outcome(value)) for key, value in card.as_json().items() if key != "flags"]
    terminal.console().print(terminal.table(("what", "outcome"), rows))


def load_compiled(name: str) -> ChatTemplate:
    """Return a template; raises TemplateError, as `convert` does, for one that does not compile or differs by run."""
    from ...render import RenderOptions, compile
    from ...render.template.chat_template import ChatTemplate

    template = ChatTemplate.load(name)
    compile(template, RenderOptions(), "auto")
    return template


def print_findings(card: ProbeCard) -> None:
    """Print what matters of a card in words, with the flags beside it, aligned where they fit."""
    from ...render.inspection.findings import findings

    found = findings(card)
    terminal.print_out(terminal.visible(f"{card.template}:" if found else f"{card.template} prints what it is given"))
    width = max((len(each.words) for each in found if each.flag), default=0)
    for each in found:
        flag = f"  {'*' if each.fits else ' '} {each.flag}" if each.flag else ""
        terminal.print_out(terminal.visible(f"  {each.words:<{width if flag else 0}}{flag}"))
    if any(each.fits for each in found):
        terminal.print_out("  * --fit does all of these")


def show_outcome(value: object) -> str:
    """Return an outcome as text: yes or no for a truth value, quotes around anything but words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if re.sub(r"[ .-]", "", text).isalnum() else json.dumps(text, ensure_ascii=False) if text else "none"


@templates.command("train", cls=Command)
def train_template(name: Name) -> None:
    """Write a template with {% generation %} tags around the text that a model is trained on."""
    from ...render import RenderOptions, sandbox_sessions
    from ...render.sandbox.limits import FOR_SAMPLES
    from ...render.single import TemplateRenderer
    from ...render.tagging.tagger import training_template
    from ...render.template.chat_template import ChatTemplate

    template = ChatTemplate.load(name)
    sessions = sandbox_sessions(template, "auto", limits=FOR_SAMPLES)
    found = training_template(TemplateRenderer(template, RenderOptions(), sessions))
    terminal.check_stdout()
    terminal.print_out(found.text.removesuffix("\n"))
    if found.unknown:
        terminal.print_note(f"no test conversation prints these, so they got no tags: {', '.join(found.unknown)}")
    if found.stopless:
        terminal.print_note(f"{found.stopless}: `chatfmt convert --mask --end eos` appends EOS")


@templates.command("audit", cls=Command)
def audit_template(
    name: Name,
    tokens_from: Annotated[
        str | None,
        typer.Option("--tokens-from", metavar="DIR|ID", help="Model that gives the template its special tokens."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what an untrusted template could do: its literals, its conditions on content, fields it never prints."""
    from ...render import RenderOptions, tracer_of
    from ...render.inspection.audit import audit
    from ...render.template.chat_template import ChatTemplate, with_tokens_of

    template = with_tokens_of(ChatTemplate.load(name), tokens_from)
    found = audit(template, tracer_of(template, RenderOptions()))
    if as_json:
        terminal.print_json({"schema": 1, **found.as_json()})
        return
    screen = terminal.console()
    for title, value in found.as_json().items():
        lines = [terminal.visible(line) for line in (value if isinstance(value, list) else [value])]
        if lines in ([], [""]):
            lines = ["none"]
        text = lines[0] if len(lines) == 1 else "\n  ".join(["", *lines])
        screen.print(terminal.visible(f"{title}: {text}", lines=True))


@templates.command("diff", cls=Command)
@options.declare(options.SELECTION, {"var": options.TEMPLATE["var"], "date": options.TEMPLATE["date"]})
@worker_processes()
def diff_templates(
    first: Annotated[str, typer.Argument(metavar="A", help="A template.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The template to compare it with.")],
    source: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE]", help="A dataset; default: a few built-in conversations.")
    ] = None,
    as_json: AsJson = False,
    **given: Any,
) -> None:
    """Show where two templates diverge; exit code 1 if they do."""
    from ...pipeline import Scratch
    from ...pipeline.inspection.compare import compare_templates
    from ...render import sandbox_sessions
    from ...render.inspection.diff import compare
    from ...render.inspection.sample_conversations import usual_conversations

    pair = (load_compiled(first), load_compiled(second))
    if source:
        with Scratch() as scratch:
            found = compare_templates(to_recipe(source, given)[0], *pair, scratch)
    else:
        found = compare(*pair, usual_conversations(), sandbox=partial(sandbox_sessions, isolation="auto"))
    if as_json:
        terminal.print_json({"schema": 1, **found.as_json()})
    else:
        print_difference(found, first, second, "row" if source else "conversation")
    if not found.same:
        raise typer.Exit(1)


def print_difference(found: Difference, first: str, second: str, noun: str) -> None:
    """Print where conversations begin to differ, with the text of both templates there, and how many do."""
    for example in found.examples:
        where = "" if example.character is None else f", character {example.character}"
        terminal.print_out(f"{noun} {example.row}{where}")
        terminal.print_out(f"  {terminal.visible(first)}: {terminal.visible(example.first)}")
        terminal.print_out(f"  {terminal.visible(second)}: {terminal.visible(example.second)}")
    counted = terminal.counted(found.rows, "conversation")
    if found.same:
        terminal.print_out(f"{counted}, the same text from both")
        return
    note = f" (the first {len(found.examples)} are shown)" if found.differing > len(found.examples) else ""
    terminal.print_out(f"{found.differing:,} of {counted} {'differs' if found.differing == 1 else 'differ'}{note}")
