"""`chatfmt templates`, `recipes`, `transforms` and `verify`: what chatfmt knows, and what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataProblem
from . import options, terminal
from .command import Command, Group
from .convert import to_recipe, worker_processes
from .options import to_values

if TYPE_CHECKING:
    from ..render.template.chat_template import ChatTemplate

AsJson = Annotated[bool, typer.Option("--json", help="The report as JSON.")]

templates = typer.Typer(
    no_args_is_help=True, help="Chat templates: list, show, probe, audit, diff.", cls=Group, rich_markup_mode=None
)
known = typer.Typer(
    no_args_is_help=True, help="Recipes of known data sets: list, show.", cls=Group, rich_markup_mode=None
)


@templates.command("list", cls=Command)
def list_templates(as_json: AsJson = False) -> None:
    """The built-in templates by name, with their other names and what they support."""
    from ..render.template import builtin

    found = [builtin.find(name) for name in builtin.names()]
    rows = [
        {"name": one.name, "aliases": list(one.aliases), "family": one.family, "supports": list(one.supports)}
        for one in found
        if one is not None
    ]
    if as_json:
        terminal.print_out(json.dumps(rows, ensure_ascii=False))
        return
    cells = [(row["name"], ", ".join(row["aliases"]), row["family"], ", ".join(row["supports"])) for row in rows]
    terminal.console().print(terminal.table(("name", "other names", "family", "supports"), cells, whole=(0,)))


Name = Annotated[str, typer.Argument(help="Built-in name, .jinja file, model folder or Hub model id.")]


@templates.command("show", cls=Command)
def show_template(
    name: Name,
    program: Annotated[bool, typer.Option("--program", help="What the traced engine makes of it.")] = False,
) -> None:
    """The text of a template, highlighted on a terminal, or the programs that it becomes."""
    from ..render.template.chat_template import ChatTemplate

    template = ChatTemplate.load(name)
    if program:
        print_programs(template)
        return
    for part, text in (template.named or {"": template.text}).items():
        if part:
            terminal.console().print(f"{{# {terminal.visible(part)} #}}")
        print_jinja(text)


def print_jinja(text: str) -> None:
    """Jinja in colour on a terminal, as it is in a pipe."""
    import sys

    terminal.check_stdout()
    if not sys.stdout.isatty():
        terminal.print_out(text.removesuffix("\n"))
        return
    from rich.syntax import Syntax

    terminal.console().print(
        Syntax(terminal.visible(text, lines=True), "jinja", background_color="default", word_wrap=True)
    )


def print_programs(template: ChatTemplate) -> None:
    """For each ordinary kind of conversation the literals and slots that its text is made of."""
    from ..pipeline.inspection.compare import compile_programs
    from ..render import RenderOptions

    for said, program in compile_programs(template, RenderOptions()):
        terminal.print_out(terminal.visible(f"{said}:"))
        terminal.print_out("\n".join(f"  {terminal.visible(line)}" for line in program.splitlines()))


@templates.command("probe", cls=Command)
def probe_template(
    name: Name,
    var: Annotated[list[str] | None, typer.Option("--var", help="Template variable, a JSON value.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a template does with system messages, tools, reasoning and the rest, and the flags to use with it."""
    from ..render.inspection.probe import probe
    from ..render.template.chat_template import ChatTemplate

    card = probe(ChatTemplate.load(name), to_values({"var": var}).get("var", {}))
    if as_json:
        terminal.print_out(json.dumps({"schema": 1, **card.as_json()}, ensure_ascii=False))
        return
    screen = terminal.console()
    told = [(key.replace("_", " "), in_words(value)) for key, value in card.as_json().items() if key != "flags"]
    screen.print(terminal.table(("what", "outcome"), told))
    if card.flags:
        screen.print(terminal.visible("with data of every kind, add --fit, or:"))
        for flag in card.flags:
            screen.print(terminal.visible(f"  {flag}"))


def in_words(value: object) -> str:
    """An outcome for people: yes and no for truth values, texts quoted where they are not one word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if text.replace(" ", "").isalnum() else json.dumps(text, ensure_ascii=False) if text else "none"


@templates.command("audit", cls=Command)
def audit_template(name: Name, as_json: AsJson = False) -> None:
    """What a stranger's template could do: literals, conditions on what people say, what it never prints."""
    from ..render import RenderOptions, SandboxRenderer, needs_sandbox
    from ..render.inspection.audit import audit
    from ..render.template.chat_template import ChatTemplate
    from ..render.trace.tracer import trace

    template = ChatTemplate.load(name)
    locked = SandboxRenderer(template, RenderOptions()) if needs_sandbox(template, "auto") else None
    found = audit(template, locked.trace if locked else trace)
    if as_json:
        terminal.print_out(json.dumps({"schema": 1, **found.as_json()}, ensure_ascii=False))
        return
    screen = terminal.console()
    for title, value in found.as_json().items():
        told = value if isinstance(value, list) else [value]
        screen.print(terminal.visible(f"{title}: " + ("none" if not told or told == [""] else "")), end="")
        screen.print(
            terminal.visible(
                "\n  ".join(["", *map(terminal.visible, told)])
                if len(told) > 1
                else "".join(map(terminal.visible, told)),
                lines=True,
            )
        )


@templates.command("diff", cls=Command)
@options.takes(options.SELECTION, {"var": options.TEMPLATE["var"], "date": options.TEMPLATE["date"]})
@worker_processes()
def diff_templates(
    first: Annotated[str, typer.Argument(metavar="A", help="A template.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The template to compare it with.")],
    source: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]", help="A data set; without it a few built-in conversations."),
    ] = None,
    as_json: AsJson = False,
    **given: Any,
) -> None:
    """Where two templates render conversations differently; exit code 1 if they do."""
    from ..pipeline import Scratch
    from ..pipeline.inspection.compare import compare_templates
    from ..render.inspection.diff import compare
    from ..render.inspection.sample_conversations import usual_conversations
    from ..render.template.chat_template import ChatTemplate

    pair = (ChatTemplate.load(first), ChatTemplate.load(second))
    if source:
        with Scratch() as scratch:
            found = compare_templates(to_recipe(source, given)[0], *pair, scratch)
    else:
        found = compare(*pair, usual_conversations())
    if as_json:
        terminal.print_out(json.dumps({"schema": 1, **found.as_json()}, ensure_ascii=False))
    else:
        for example in found.examples:
            where = "" if example.character is None else f", character {example.character}"
            terminal.print_out(f"{'row' if source else 'conversation'} {example.row}{where}")
            terminal.print_out(f"  {terminal.visible(first)}: {terminal.visible(example.first)}")
            terminal.print_out(f"  {terminal.visible(second)}: {terminal.visible(example.second)}")
    if not found.same:
        left = found.differing - len(found.examples)
        said = f" (the first {len(found.examples)} are shown)" if left and not as_json else ""
        raise DataProblem(f"{found.differing} of {found.rows} conversations differ{said}")
    if not as_json:
        terminal.print_out(f"{found.rows} conversations, the same text from both")


@known.command("list", cls=Command)
def list_recipes(as_json: AsJson = False) -> None:
    """The recipes of known data sets."""
    from .. import recipe as recipes

    rows = []
    for name in recipes.names():
        values = recipes.load(name).values
        about = values["about"]
        source = values["source"]
        rows.append({"name": name, "source": source, "title": about["title"], "licence": about["licence"],
                     "subsets": about.get("subsets", [])})  # fmt: skip
    if as_json:
        terminal.print_out(json.dumps(rows, ensure_ascii=False))
        return
    cells = [(row["name"], row["source"], row["licence"], row["title"]) for row in rows]
    terminal.console().print(terminal.table(("name", "data set", "licence", "title"), cells, whole=(0,)))


@known.command("show", cls=Command)
def show_recipe(name: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file.")]) -> None:
    """A recipe as it is written, checked."""
    from .. import recipe as recipes

    layer = recipes.load(name)
    recipes.build([layer])
    path = Path(name) if name.endswith((".yaml", ".yml")) else recipes.configs() / f"{name}.yaml"
    terminal.print_out(path.read_text(encoding="utf-8").rstrip("\n"))


def list_transforms() -> None:
    """The changes that --transform NAME=VALUE makes, in the order in which they are made."""
    from ..transforms import TRANSFORMS

    rows = [(name, transform.values, transform.summary) for name, transform in TRANSFORMS.items()]
    terminal.console().print(terminal.table(("name", "values", "what it changes"), rows))


def verify(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that chatfmt wrote.")], as_json: AsJson = False
) -> None:
    """Compare every byte and count of an output folder with its manifest; exit code 1 for any difference."""
    from .. import manifest

    problems = manifest.verify(Path(folder))
    if as_json:
        found = [{"code": problem.code, "path": problem.path, "message": problem.message} for problem in problems]
        terminal.print_out(json.dumps({"schema": 1, "problems": found}, ensure_ascii=False))
    if problems:
        hint = "convert again with --overwrite" if Path(folder).is_dir() else "name a folder that chatfmt wrote"
        raise DataProblem(f"{folder}: " + "; ".join(map(str, problems)), hint=hint)
    if not as_json:
        shards = manifest.read_manifest(Path(folder)).shards
        rows = terminal.counted(sum(shard.rows for shard in shards), "row")
        counts = f"{rows} in {terminal.counted(len(shards), 'shard')}"
        terminal.print_out(f"{folder}: {counts}, every byte as it was written")
