"""`--dry-run`: show the plan of a conversion."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import starmap
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from ..errors import Location
from . import terminal
from .summary import left_behind, size

if TYPE_CHECKING:
    from ..pipeline import Plan
    from ..pipeline.planning.source_plan import SourcePlan
    from ..pipeline.running.estimate import Estimate
    from ..recipe import Recipe, Run
    from ..render import EngineChoice

DECISIVE = ("template", "to", "dialect", "date")
"""Keys that are shown even where they have their defaults."""


def print_plan(plan: Plan, run: Run, origins: Mapping[str, str]) -> None:
    """Print the recipe with the origin of each value, the files to be written and the render engine."""
    from ..pipeline.running.estimate import estimate
    from ..render import choose_engine

    rows = [_with_view(row, plan) for row in describe(plan.recipe, run, origins)]
    engine = choose_engine(plan.sources[0].job.options) if plan.template else None
    estimated = estimate(plan, run)
    if run.json:
        terminal.print_json(to_json(plan, rows, engine, estimated))
    else:
        print_table(plan, rows, engine, estimated)


def describe(recipe: Recipe, run: Run, origins: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    """Return each key of both with its plain value and the origin of the value (`default` if nothing set it)."""
    from ..recipe import FOR

    values = {**recipe.plain(), **run.plain()}
    names = {key: FOR if key == "trainer" else key for key in values if key != "about"}
    return [(name, values[key], origins.get(key, "default")) for key, name in names.items()]


def _with_view(row: tuple[str, Any, str], plan: Plan) -> tuple[str, Any, str]:
    """Return a row of `describe`: `to` with the view that `--for` chose for this data, `source` without passwords."""
    from ..stores import sources_without_credentials

    if row[0] == "source":
        return row[0], sources_without_credentials(row[1]), row[2]
    chosen = row[0] == "to" and row[1] == "auto" and plan.recipe.trainer is not None
    return ("to", plan.sources[0].job.view, f"set by --for {plan.recipe.trainer}") if chosen else row


def to_json(
    plan: Plan, rows: Sequence[tuple[str, Any, str]], engine: EngineChoice | None, estimated: Estimate | None
) -> dict[str, Any]:
    """Return the plan as plain data."""
    return {
        "schema": 1,
        "recipe": {key: value for key, value, _ in rows},
        "origins": {key: origin for key, _, origin in rows if origin != "default"},
        "dialects": [source.job.dialect for source in plan.sources],
        "view": plan.sources[0].job.view,
        "engine": {"name": engine.engine, "reason": engine.reason} if engine else None,
        "special_tokens": special_tokens(plan),
        "template_needs": template_needs(plan),
        "left_columns": [leaf for source in plan.sources for leaf in left_leaves(source)[0]],
        "left_keys": [leaf for source in plan.sources for leaf in left_leaves(source)[1]],
        "rows": plan.rows,
        "shards": output_files(plan),
        "estimate": estimated and {**asdict(estimated), "elapsed": round(estimated.elapsed, 1)},
        "fingerprint": plan.fingerprint,
    }


def print_table(
    plan: Plan, rows: Sequence[tuple[str, Any, str]], engine: EngineChoice | None, estimated: Estimate | None
) -> None:
    """Print the plan as text; of the defaults only the DECISIVE ones."""
    cells = [(key, json.dumps(_brief(key, value), ensure_ascii=False), origin) for key, value, origin in rows]
    shown = [row for row in cells if row[2] != "default" or row[0] in DECISIVE]
    screen = terminal.console()
    screen.print(terminal.table(("key", "value", "from"), shown))
    for source in plan.sources:
        terminal.print_wrapped(f"{Location(source.source.shown)}: {source.job.dialect}, {source.detection.reason}")
        if line := left_behind(*left_leaves(source)):
            screen.print(terminal.visible(line), soft_wrap=True)
    count = "an unknown number of rows" if plan.rows is None else terminal.counted(plan.rows, "row")
    view = plan.sources[0].job.view
    first, *others = output_files(plan)
    shards = f"{terminal.counted(len(plan.files_to_write), 'shard')}: " if plan.target.holds_shards else ""
    screen.print(terminal.visible(f"reads {count}, writes `{view}` to {shards}{first}{' …' if others else ''}"))
    if estimated:
        screen.print(in_words(estimated), soft_wrap=True)
    if engine:
        screen.print(f"engine: {engine.engine} ({engine.reason})")
    if tokens := special_tokens(plan):
        screen.print(terminal.visible(f"special tokens: {', '.join(starmap(token_line, tokens.items()))}"))
    for line in needs_lines(plan):
        screen.print(terminal.visible(line), soft_wrap=True)


def _brief(key: str, value: Any) -> Any:
    """Return the value of a key, of sources without what is not set."""
    if key != "source":
        return value
    return [{name: each[name] for name in each if each[name] not in (None, 1.0)} for each in value]


def in_words(estimated: Estimate) -> str:
    """Return an estimate as a line."""
    elapsed, alone = (timedelta(seconds=math.ceil(seconds)) for seconds in (estimated.elapsed, estimated.seconds))
    workers = f"{elapsed} with {terminal.counted(estimated.workers, 'worker')}, " if estimated.workers > 1 else ""
    return (
        f"estimated from {terminal.counted(estimated.measured, 'row')}: {workers}{alone} with one; "
        f"{size(estimated.written)} written, {size(estimated.memory)} of memory per worker"
    )


def left_leaves(source: SourcePlan) -> tuple[list[str], list[str]]:
    """Return the leaves of a source that are left behind: of unused columns, and inside used ones."""
    ledger = source.job.ledger
    return [str(leaf) for leaf in ledger.left_columns], [str(leaf) for leaf in ledger.left_keys]


def output_files(plan: Plan) -> list[str]:
    """Return the files to be written: shard names in the folder, the one file, or `stdout`."""
    if plan.target.kind == "folder":
        return list(plan.files_to_write)
    return ["stdout" if str(plan.target) == "-" else str(plan.target)]


def template_needs(plan: Plan) -> list[str]:
    """Return the flags with which the template renders any input; empty with `--fit`."""
    from ..render import sandbox_sessions
    from ..render.inspection.probe import probe

    if plan.template is None or plan.recipe.fit:
        return []
    sessions = sandbox_sessions(plan.template, plan.recipe.template_isolation)
    return list(probe(plan.template, plan.recipe.var, sessions).flags)


def special_tokens(plan: Plan) -> dict[str, dict[str, str | None]]:
    """Return the special tokens that the template reads; see `planning.templates.token_sources`."""
    from ..pipeline.planning.templates import token_sources

    return {} if plan.template is None else token_sources(plan.recipe, plan.template)


def token_line(name: str, token: Mapping[str, str | None]) -> str:
    """Return a special token in words, as in `bos_token "<s>" from the template`."""
    if token["value"] is None:
        return f"{name} without a value"
    return f"{name} {json.dumps(token['value'], ensure_ascii=False)} from {token['from']}"


def needs_lines(plan: Plan) -> Iterator[str]:
    """Yield a line on the flags of `template_needs`, if there are any; `--fit` does all the transforms."""
    flags = template_needs(plan)
    fitted = [flag.removeprefix(_TRANSFORM) for flag in flags if flag.startswith(_TRANSFORM)]
    needed = [f"--fit ({', '.join(fitted)})"] if fitted else []
    needed += [flag for flag in flags if not flag.startswith(_TRANSFORM)]
    if needed:
        yield f"with this template, data other than plain text may need {' and '.join(needed)}"


_TRANSFORM = "--transform "
