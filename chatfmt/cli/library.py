"""`chatfmt templates`, `recipes`, `transforms` and `verify`: what chatfmt knows, and what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataProblem
from . import options, show
from .convert import apart, to_recipe
from .help import PLAIN, Command
from .options import to_values

if TYPE_CHECKING:
    from ..render.template import ChatTemplate

AsJson = Annotated[bool, typer.Option("--json", help="The report as JSON.")]

templates = typer.Typer(no_args_is_help=True, help="Chat templates: list, show, probe, audit, diff.", **PLAIN)
known = typer.Typer(no_args_is_help=True, help="Recipes of known data sets: list, show.", **PLAIN)


@templates.command("list", cls=Command)
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
    show.console().print(show.table(("name", "other names", "family", "supports"), cells, whole=(0,)))


Name = Annotated[str, typer.Argument(help="Built-in name, .jinja file, model folder or Hub model id.")]


@templates.command("show", cls=Command)
def show_template(
    name: Name,
    program: Annotated[bool, typer.Option("--program", help="What the traced engine makes of it.")] = False,
) -> None:
    """The text of a template, highlighted on a terminal, or the programs that it becomes."""
    from ..render.template import ChatTemplate

    template = ChatTemplate.load(name)
    if program:
        print_programs(template)
        return
    for part, text in (template.named or {"": template.text}).items():
        if part:
            show.console().print(f"{{# {show.visible(part)} #}}")
        print_jinja(text)


def print_jinja(text: str) -> None:
    """Jinja in colour on a terminal, as it is in a pipe."""
    import sys

    show.check_stdout()
    if not sys.stdout.isatty():
        show.print_out(text.removesuffix("\n"))
        return
    from rich.syntax import Syntax

    show.console().print(Syntax(show.visible(text, lines=True), "jinja", background_color="default", word_wrap=True))


def print_programs(template: ChatTemplate) -> None:
    """For each ordinary kind of conversation the literals and slots that its text is made of."""
    from ..pipeline import look
    from ..render import RenderOptions

    for said, program in look.programs(template, RenderOptions()):
        show.print_out(show.visible(f"{said}:"))
        show.print_out("\n".join(f"  {show.visible(line)}" for line in program.splitlines()))


@templates.command("probe", cls=Command)
def probe_template(
    name: Name,
    var: Annotated[list[str] | None, typer.Option("--var", help="Template variable, a JSON value.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a template does with system messages, tools, reasoning and the rest, and the flags to use with it."""
    from ..render.probe import probe
    from ..render.template import ChatTemplate

    card = probe(ChatTemplate.load(name), to_values({"var": var}).get("var", {}))
    if as_json:
        show.print_out(json.dumps({"schema": 1, **card.as_json()}, ensure_ascii=False))
        return
    screen = show.console()
    told = [(key.replace("_", " "), in_words(value)) for key, value in card.as_json().items() if key != "flags"]
    screen.print(show.table(("what", "outcome"), told))
    if card.flags:
        screen.print(show.visible("with data of every kind, add --fit, or:"))
        for flag in card.flags:
            screen.print(show.visible(f"  {flag}"))


def in_words(value: object) -> str:
    """An outcome for people: yes and no for truth values, texts quoted where they are not one word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if text.replace(" ", "").isalnum() else json.dumps(text, ensure_ascii=False) if text else "none"


@templates.command("audit", cls=Command)
def audit_template(name: Name, as_json: AsJson = False) -> None:
    """What a stranger's template could do: literals, conditions on what people say, what it never prints."""
    from ..render import LockedRenderer, RenderOptions, is_locked
    from ..render.audit import audit
    from ..render.template import ChatTemplate
    from ..render.trace import trace

    template = ChatTemplate.load(name)
    locked = LockedRenderer(template, RenderOptions()) if is_locked(template, "auto") else None
    found = audit(template, locked.trace if locked else trace)
    if as_json:
        show.print_out(json.dumps({"schema": 1, **found.as_json()}, ensure_ascii=False))
        return
    screen = show.console()
    for title, value in found.as_json().items():
        told = value if isinstance(value, list) else [value]
        screen.print(show.visible(f"{title}: " + ("none" if not told or told == [""] else "")), end="")
        screen.print(
            show.visible(
                "\n  ".join(["", *map(show.visible, told)]) if len(told) > 1 else "".join(map(show.visible, told)),
                lines=True,
            )
        )


@templates.command("diff", cls=Command)
@options.takes(options.SELECTION, {"var": options.TEMPLATE["var"], "date": options.TEMPLATE["date"]})
@apart()
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
    from ..pipeline import Scratch, look
    from ..render.difference import compare, usual_conversations
    from ..render.template import ChatTemplate

    pair = (ChatTemplate.load(first), ChatTemplate.load(second))
    if source:
        with Scratch() as scratch:
            found = look.difference(to_recipe(source, given)[0], *pair, scratch)
    else:
        found = compare(*pair, usual_conversations())
    if as_json:
        show.print_out(json.dumps({"schema": 1, **found.as_json()}, ensure_ascii=False))
    else:
        for example in found.examples:
            where = "" if example.character is None else f", character {example.character}"
            show.print_out(f"{'row' if source else 'conversation'} {example.row}{where}")
            show.print_out(f"  {show.visible(first)}: {show.visible(example.first)}")
            show.print_out(f"  {show.visible(second)}: {show.visible(example.second)}")
    if not found.same:
        left = found.differing - len(found.examples)
        said = f" (the first {len(found.examples)} are shown)" if left and not as_json else ""
        raise DataProblem(f"{found.differing} of {found.rows} conversations differ{said}")
    if not as_json:
        show.print_out(f"{found.rows} conversations, the same text from both")


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
        show.print_out(json.dumps(rows, ensure_ascii=False))
        return
    cells = [(row["name"], row["source"], row["licence"], row["title"]) for row in rows]
    show.console().print(show.table(("name", "data set", "licence", "title"), cells, whole=(0,)))


@known.command("show", cls=Command)
def show_recipe(name: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file.")]) -> None:
    """A recipe as it is written, checked."""
    from .. import recipe as recipes

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
        hint = "convert again with --overwrite" if folder.is_dir() else "name a folder that chatfmt wrote"
        raise DataProblem(f"{folder}: " + "; ".join(map(str, problems)), hint=hint)
    if not as_json:
        shards = manifest.read_manifest(folder).shards
        counts = f"{show.counted(sum(shard.rows for shard in shards), 'row')} in {show.counted(len(shards), 'shard')}"
        show.print_out(f"{folder}: {counts}, every byte as it was written")
