"""Make the recipe and the run of a command from its arguments, options, environment and files."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, UnknownName, UsageError, nearest
from . import settings
from .options import EVERY
from .values import fraction, split_pairs, to_values

if TYPE_CHECKING:
    from ..recipe import Recipe, Run


def to_recipe(source: list[str], given: Mapping[str, Any]) -> tuple[Recipe, Run, dict[str, str]]:
    """Return what `build` makes of SOURCE and the options, after notes on variables that set none."""
    settings.note_misspelt(given)
    return build(source, given)


def build(source: list[str], given: Mapping[str, Any]) -> tuple[Recipe, Run, dict[str, str]]:
    """Return the recipe that SOURCE and the options make, how to run it, and the origin of each value.

    Flags win over the environment, which wins over a recipe, which wins over the configuration file.
    """
    from .. import recipe

    if "out" in given and given["out"] is None:
        check_output_is_no_source(source)
    known = [one for one in source if is_recipe(one)]
    others = source[1:] if known and source[0] == known[0] and recipe.reads_files(known[0]) else []
    if known and len(source) > 1 and not others:
        raise UsageError(f"the recipe `{known[0]}` cannot be combined with other sources", hint="convert it by itself")
    weights = split_pairs(given.get("weight") or settings.lines("weight"), "weight")
    if known and weights:
        raise UsageError(
            "`--weight` is for sources named on the command line", hint="a recipe has the weight beside the source"
        )
    if known and not others and known[0] in recipe.names() and recipe.reads_files(known[0]):
        check_files_are_here(known[0], str(recipe.load(known[0]).values["source"]))
    typed = [recipe.load(known[0])] if known else [recipe.Layer("argument", {"source": weighted(source, weights)})]
    typed += [recipe.Layer("argument", {"source": others})] if others else []
    offered = [key for key in EVERY if key in given and key != "weight"]
    around = [*settings.from_config(), *typed, *settings.from_environment(offered)]
    return recipe.build([*around, recipe.Layer("flag", to_values(given))])


def check_files_are_here(name: str, pattern: str) -> None:
    """Raise InputError if nothing matches the files that a recipe reads where none are named."""
    if not glob(str(Path(pattern).expanduser()), recursive=True):  # noqa: PTH207
        text = f"the recipe `{name}` reads `{pattern}`, which is not here"
        raise InputError(text, hint=f"name yours after the recipe: {name} FILE", code="file.missing")


def is_recipe(source: str) -> bool:
    """Return whether SOURCE names a recipe: one of `configs/`, or an existing YAML file."""
    from .. import recipe

    return source in recipe.names() or (source.endswith((".yaml", ".yml")) and Path(source).is_file())


def check_output_is_no_source(sources: Sequence[str]) -> None:
    """Raise InputError for a last source that does not exist and may be meant as the output, as in `cp`."""
    from .. import recipe

    *others, last = sources or [""]
    named = last.endswith(("/", ".jsonl", ".json", ".parquet"))
    if last.lower() in ("yes", "no", "true", "false", "on", "off") and others and not Path(last).exists():
        raise UsageError(f"there is no source `{last}`", hint="flags such as --mask and --no-mask take no value")
    is_read = others and is_recipe(others[-1]) and recipe.reads_files(others[-1])
    if others and named and not is_read and "://" not in last and not has_magic(last) and not Path(last).exists():
        close = nearest(last, [str(path) for path in Path(last).parent.glob("*")], max(1, len(Path(last).stem) // 3))
        hint = f"{f'did you mean `{close[0]}`? Or ' if close else ''}to write there: -o {shlex.quote(last)}"
        raise InputError(f"no such file `{last}`", code="file.missing", hint=hint)


Conversion = tuple["Recipe", "Run", Mapping[str, str]]
"""A recipe, how to run it, and the origin of each value."""


def to_recipes(source: list[str], given: Mapping[str, Any]) -> list[Conversion]:
    """Return what `build` makes for each of the templates; its name stands for `{template}` in the paths of a run.

    Raises UsageError if several templates would write to one place, or read stdin.
    """
    templates = [*dict.fromkeys(given.get("template") or ())]
    settings.note_misspelt(given)
    made = [build(source, {**given, "template": [name]}) for name in templates] or [build(source, given)]
    if len(made) > 1:
        check_places(*made[0][:2], [file_name(name) for name in templates])
    return [(recipe, in_place(run, recipe.template), origins) for recipe, run, origins in made]


def check_places(recipe: Recipe, run: Run, names: Sequence[str]) -> None:
    """Raise UsageError unless templates with these names write to places of their own, and read files."""
    named = (
        ("-o", run.out, "out/{template}/"), ("--rejects", run.rejects, "{template}.jsonl"),
        ("--report", run.report, "{template}.html"),
    )  # fmt: skip
    for flag, path, shown in named:
        if PLACE not in str(path) and (path is not None or flag == "-o"):
            raise UsageError(f"{len(names)} templates need {len(names)} places to write to", hint=f"{flag} '{shown}'")
    if any(spec.source == "-" for spec in recipe.source):
        raise UsageError("stdin can be read for one template only", hint="save its rows to a file first")
    if len({name.lower() for name in names}) < len(names):
        raise UsageError(f"two templates would write to `{names[0]}`", hint="convert with one after the other")


PLACE = "{template}"
"""What stands in paths for the name of the template."""


def file_name(template: str) -> str:
    """Return the name of a template for a path: the last part of a path or Hub id, without the suffix `.jinja`."""
    last = template.rstrip("/").rsplit("/", 1)[-1].removesuffix(".jinja")
    return re.sub(r"[^\w.-]+", "-", last).strip("-.") or "template"


def in_place(run: Run, template: str | None) -> Run:
    """Return the run with the name of its template in its paths."""
    if template is None:
        return run

    def named(path: Path | None) -> Path | None:
        return path and Path(str(path).replace(PLACE, file_name(template)))

    return dataclasses.replace(run, out=named(run.out), rejects=named(run.rejects), report=named(run.report))


def weighted(sources: Sequence[str], weights: Mapping[str, str]) -> list[Any]:
    """Return the sources, those with a weight as a recipe has them; raises UnknownName for the weight of no source."""
    for name in weights:
        if name not in sources:
            raise UnknownName.of("source", name, sources)
    return [
        {"source": name, "weight": fraction("--weight", weights[name])} if name in weights else name for name in sources
    ]
