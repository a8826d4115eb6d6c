"""Shell completion after an option: names from the registries, and the columns of the source already typed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ..recipe import load, names

Complete = Callable[[Any, str], list[str]]

INSTRUCTION = "_CHATFMT_COMPLETE"
"""The variable by which the shell asks; its value names the shell, as in `complete_bash`."""


def typed_words() -> list[str]:
    """Return the words typed so far after `chatfmt` if the shell asks for completions, else none.

    Bash splits `--keep=id` and `--map user=question` at the `=` and completes what follows: the `=` is taken out, and
    in the second case what precedes it.
    """
    if not os.environ.get(INSTRUCTION, "").startswith("complete_"):
        return []
    if "COMP_WORDS" in os.environ:
        words = re.sub(r"\n(--[^\n]*)\n=\n?", r"\n\1\n", os.environ["COMP_WORDS"])
        words = re.sub(r"\n[^-\n][^\n]*\n=\n?(?=[^\n]*\Z)", "\n", words)
        os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = words, str(words.count("\n"))
        return words.split("\n")[1:]
    return os.environ.get("_TYPER_COMPLETE_ARGS", "").split()[1:]


def completer(name: str, metavar: str | None = None) -> Complete | None:
    """Return what completes an option or argument; choices such as `stop|skip` complete themselves."""
    if name not in COMPLETE and metavar and re.fullmatch(r"[a-z-]+(\|[a-z-]+)+", metavar):
        return lambda ctx, incomplete: metavar.split("|")
    return COMPLETE.get(name)


def _registry(module: str, attribute: str, end: str = "") -> Complete:
    """Return a function that completes the names of a registry, imported when the shell asks."""

    def complete(ctx: Any, incomplete: str) -> list[str]:
        found = getattr(import_module(f"..{module}", __package__), attribute)
        return [name + end for name in (found() if callable(found) else found)]

    return complete


def _sources(ctx: Any, incomplete: str) -> list[str]:
    """Complete the name of a recipe; paths are left to the shell."""
    paths = not incomplete or any(Path().glob(re.sub(r"([*?[])", r"[\1]", incomplete) + "*"))
    return [] if paths else list(names())


def _splits(ctx: Any, incomplete: str) -> list[str]:
    known = [source for source in _typed_sources(ctx) if source in names()]
    splits = load(known[0]).values["about"]["splits"] if known else ("train", "test", "validation")
    return [*splits, "all"]


def _typed_sources(ctx: Any) -> list[str]:
    """Return the sources; while an option lacks its value, nothing is parsed and all words are arguments."""
    return list(ctx.params.get("source") or ctx.args)


def _columns(ctx: Any, incomplete: str) -> list[str]:
    found = (columns_of(Path(source)) for source in _typed_sources(ctx))
    return list(dict.fromkeys(name for names in found for name in names))


def _mapped_columns(ctx: Any, incomplete: str) -> list[str]:
    field, equals, _ = incomplete.rpartition("=")
    return [field + equals + column for column in _columns(ctx, incomplete)]


def columns_of(path: Path) -> list[str]:
    """Return the columns of a local Parquet, JSON Lines, CSV or TSV file from its beginning; else none."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            return list(pq.read_schema(path).names)
        with path.open(encoding="utf-8") as file:
            line = file.readline(1 << 20)
        if path.suffix in (".csv", ".tsv"):
            return [name.strip().strip('"') for name in line.split("\t" if path.suffix == ".tsv" else ",")]
        row = json.loads(line)
        return list(row) if isinstance(row, dict) else []
    except (OSError, ValueError):  # an error in the middle of a command line would help nobody
        return []


COMPLETE: Mapping[str, Complete] = {
    "source": _sources,
    "recipe": _registry("recipe", "names"),
    "topic": _registry("cli.commands.guide", "topics"),
    "split": _splits,
    **dict.fromkeys(("template", "diff_template"), _registry("render.template.builtin", "names")),
    "supports": _registry("render.template.builtin", "SUPPORTS"),
    "trainer": _registry("trainers", "TRAINERS"),
    "to": _registry("views", "VIEWS"),
    "dialect": _registry("dialects", "DIALECTS"),
    "executor": _registry("executors", "EXECUTORS"),
    "transform": _registry("transforms", "TRANSFORMS", "="),
    "fail_on": _registry("checks", "CHECKS"),
    "map": _mapped_columns,
    **dict.fromkeys(("keep", "drop", "explode", "dedup_by", "split_by", "group_by", "order_by"), _columns),
}
"""By the name of an option or argument, the function that returns what may follow what was typed."""
