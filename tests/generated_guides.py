"""The guides that are made from the code: commands, codes of errors, and a gallery of templates."""

from __future__ import annotations

import ast
import datetime
import inspect
import io
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

import chatfmt
from chatfmt import ChatTemplate, errors
from chatfmt.checks import CHECKS
from chatfmt.cli.app import COMMANDS
from chatfmt.errors import ChatfmtError
from chatfmt.render import RenderOptions
from chatfmt.render.single import Chat, TemplateRenderer
from chatfmt.render.template import builtin

from .conftest import ROOT, run_cli

SOURCE = ROOT / "chatfmt"
DEFAULT_HINTS = {errors.RowError.exit_code: "--on-error skip"}
"""The hints of errors that have no other, by exit code; that of a row is `errors.SKIP`."""
GROUPS = ("templates", "recipes")
EXIT_CODES = {
    0: "done",
    1: "the data is not good enough: problems found by `check` or `verify`, or more bad rows than `--max-bad` allows",
    2: "the command or recipe is invalid",
    3: "the input cannot be read: not found, gated, empty, damaged",
    4: "a row cannot be converted",
    5: "the output cannot be written: it exists, the disk is full, or another run is writing to it",
    6: "the template does not compile, or would lose data",
}
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the capital of Iceland?"},
    {"role": "assistant", "content": "Reykjavík."},
]


def commands() -> str:
    """The help of every command; that of `convert` with all options, which others share."""
    parts = ["# Commands", "What `chatfmt COMMAND --help` shows, and of `convert` every option (`--help-all`).\n"]
    for name in COMMANDS:
        for words in [(name,), *((name, command) for command in subcommands(name))]:
            flag = "--help-all" if name == "convert" else "--help"
            text = run_cli(*words, flag, env={"COLUMNS": "80"})
            parts.append(f"## chatfmt {' '.join(words)}\n\n```\n{text.stdout.decode().rstrip()}\n```\n")
    return "\n".join(parts)


def subcommands(group: str) -> list[str]:
    """The commands of a group."""
    if group not in GROUPS:
        return []
    lines = run_cli(group, "--help", env={"COLUMNS": "200"}).stdout.decode().split("Commands:\n")[1].splitlines()
    return [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]


def codes() -> str:
    """Exit codes, findings of `check`, and codes of errors with their messages."""
    exits = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    findings = "\n".join(
        f"| `{code}` | {check.kind} | {cell(check.summary)} | {cell(check.hint)} |" for code, check in CHECKS.items()
    )
    found: dict[tuple[str, int, str], list[str]] = {}
    for code, kind, message, hint in sorted({*raised()}):
        found.setdefault((code, getattr(errors, kind).exit_code, message), []).append(hint)
    messages = "\n".join(
        f"| `{code}` | {status} | {cell(message)} | {cell(joined(hints, status))} |"
        for (code, status, message), hints in found.items()
    )
    return f"""# Errors and exit codes

An error is one line, `error: …`, usually followed by `hint: …`, on stderr. Rows count from 0 within
their file, as in `dataset[0]`, `--row` and `--skip`; lines count from 1, as in an editor, and an error names the line
on which a row of JSON Lines, JSON or CSV begins. The rejects file and `check --json` name the reason of each bad row by
its code.

## Exit codes

| code | meaning |
|---|---|
{exits}
| 130, 143, 141 | Ctrl-C, SIGTERM, broken pipe |

## What `check` finds

An error stops a conversion or, with `--on-error skip`, rejects the row. A warning is counted; `--strict` makes all of
them errors, `--fail-on CODE` one of them; with `--on-error skip` such rows are then left out.

| code | kind | what | what to do |
|---|---|---|---|
{findings}

## Codes of errors

`…` stands for what the message names; alone it is a hint that depends on what is there, such as files of similar names.
` / ` is between the hints of different cases. Where nothing better is known, the hint of an error of a row is that
`--on-error skip` leaves out such rows, and --rejects FILE keeps them.

| code | exit | message | hint |
|---|---|---|---|
{messages}
"""


def joined(hints: list[str], status: int) -> str:
    """The hints of an error, or what there is to do about any error with its exit code."""
    return " / ".join(filter(None, hints)) or DEFAULT_HINTS.get(status, "")


def raised() -> Iterator[tuple[str, str, str, str]]:
    """Yield code, kind, message and hint of every error in the source that has a code."""
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ChatfmtError)}
    for path in sorted(SOURCE.rglob("*.py")):
        module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        texts = {name: ast.Constant(text) for name, text in vars(module).items() if isinstance(text, str)}
        for node, values in calls(ast.parse(path.read_text(encoding="utf-8")), {**texts}):
            if isinstance(node.func, ast.Name) and node.func.id in kinds and node.args:
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                code, hint = given.get("code"), given.get("hint")
                if isinstance(code, ast.Constant) and (message := shown(node.args[0], values)):
                    yield str(code.value), node.func.id, message, shown(hint, values) or ("…" if hint else "")


Values = dict[str, ast.expr]


def calls(node: ast.AST, values: Values) -> Iterator[tuple[ast.Call, Values]]:
    """Yield the calls below a node in the order of the source, with the values that names were given before."""
    if isinstance(node, ast.FunctionDef):
        values = {name: value for name, value in values.items() if name not in {arg.arg for arg in node.args.args}}
    if isinstance(node, ast.Assign):
        pairs = [(node.targets[0], node.value)]
        if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(node.targets[0].elts, node.value.elts, strict=False))
        values |= {target.id: value for target, value in pairs if isinstance(target, ast.Name)}
    if isinstance(node, ast.Call):
        yield node, values
    for child in ast.iter_child_nodes(node):
        yield from calls(child, values)


def shown(node: ast.expr | None, values: Values) -> str:
    """A text as it stands in the code, `…` for what is filled in; empty if it is made elsewhere."""
    node = values.get(node.id) if isinstance(node, ast.Name) else node
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return re.sub("…+", "…", "".join(map(partial(shown_part, values=values), node.values)))
    if isinstance(node, ast.BoolOp):  # `special or "general"`
        return shown(node.values[-1], values)
    if isinstance(node, ast.IfExp):
        cases = [shown(case, values) for case in (node.body, node.orelse)]
        return " / ".join(case or "…" for case in cases) if any(cases) else ""
    if isinstance(node, ast.BinOp):
        return re.sub("…+", "…", shown(node.left, values) + "…")
    return ""


def shown_part(part: ast.expr, values: Values) -> str:
    """A part of an f-string as it stands in the code; a constant of the module as its text."""
    if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name) and part.value.id.isupper():
        part = values.get(part.value.id, part)
    return str(part.value) if isinstance(part, ast.Constant) else "…"


def cell(text: str) -> str:
    """A text in a cell of a table."""
    text = text.replace("|", "\\|").replace("\n", " ")
    return re.sub("`[^`]*`|<", lambda found: "&lt;" if found[0] == "<" else found[0], text)


def gallery() -> str:
    """One conversation in every built-in template."""
    parts = [
        "# Gallery of chat templates",
        "The same conversation in every built-in template, without the system message where a template refuses it. "
        "`chatfmt templates probe NAME` shows what a template does with tools, reasoning and everything else.\n",
    ]
    for name in builtin.names():
        parts.append(f"## {name}\n\n```\n{rendered(name)}\n```\n")
    return "\n".join(parts)


def rendered(name: str) -> str:
    """The conversation in a template, always on the same day; without the system message if that is refused."""
    renderer = TemplateRenderer(ChatTemplate.load(name), RenderOptions(date=datetime.date(2026, 8, 1)))
    texts = (renderer.text_or_none(Chat(messages)) for messages in (CONVERSATION, CONVERSATION[1:]))
    return next(text for text in texts if text is not None).rstrip("\n")


def api() -> str:
    """The public names of the package, with their signatures, docstrings and fields."""
    parts = ["# Python reference", "The public names of `chatfmt`; `chatfmt guide python` shows how to use them.\n"]
    for name in sorted(set(chatfmt.__all__) - {"__version__"}, key=str.lower):
        named = getattr(chatfmt, name)
        parts.append(f"## {name}\n")
        if not isinstance(named, type):
            parts.append(f"```python\n{name}{unquoted(inspect.signature(named))}\n```\n")
        parts.append(f"{inspect.getdoc(named)}\n")
        parts += [f"{line}\n" for line in members(named)]
    return "\n".join(parts).rstrip("\n") + "\n"


def unquoted(signature: inspect.Signature) -> str:
    """A signature without the quotes around its annotations, which are text while they are not evaluated."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(signature))


def members(named: Any) -> Iterator[str]:
    """The fields of a class as one list with their types, and its public methods with the first line of their docs."""
    if not isinstance(named, type) or issubclass(named, Exception):
        return
    (body,) = (node.body for node in ast.parse(inspect.getsource(named)).body if isinstance(node, ast.ClassDef))
    typed = [node for node in body if isinstance(node, ast.AnnAssign)]
    fields = [ast.unparse(node) for node in typed if not ast.unparse(node.target).startswith("_")]
    if fields:
        yield "```python\n" + "\n".join(fields) + "\n```"
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and (doc := ast.get_docstring(node)):
            yield f"* `{node.name}`: {' '.join(doc.split(chr(10) * 2)[0].split())}"


def picture(*command: str) -> str:
    """What a command shows on a terminal, as an SVG that loads no font."""
    shown = run_cli(*command, env={"FORCE_COLOR": "1", "COLUMNS": "90", "TERM": "xterm-256color"}, cwd=ROOT)
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(Text.from_ansi(shown.stdout.decode().rstrip("\n")))
    format = re.sub(r"@font-face \{\{.*?\}\}|<!--.*?-->", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    made = console.export_svg(title=" ".join(("chatfmt", *command)), code_format=format)
    return "\n".join(line.rstrip() for line in made.splitlines()) + "\n"


GENERATED: Mapping[str, Callable[[], str]] = {
    "commands.md": commands,
    "errors.md": codes,
    "templates.md": gallery,
    "api.md": api,
    "preview.svg": lambda: picture("preview", "tests/data/reasoning.jsonl", "-t", "qwen3", "-n", "1"),
    "stats.svg": lambda: picture("stats", "tests/data/everyday.jsonl", "-t", "chatml"),
}
"""The generated guides by their names, each with the function that makes it."""
