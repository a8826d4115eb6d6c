"""The command that converts a source as it was inspected, with flags that were tried on the sample."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ... import trainers
from ...errors import ChatfmtError, UsageError
from ...json_columns import JSON, message_columns
from ...recipe import Recipe, renders
from ...schema import REASONING_FIELDS
from ...sources import Source
from ...stores import without_credentials
from ...validation import default_of, flag_of, to_plain
from ...views import is_rendered
from ..conversion.job import Job
from ..conversion.row_counts import RowCounts
from ..conversion.stages import Conversion
from ..conversion.task import ignore_rejects
from ..planning.jobs import to_job
from ..planning.left_behind import refuse_suspects
from ..planning.source_plan import SourcePlan
from ..planning.templates import load_template


def template_arguments(
    recipe: Recipe, type: str, outputs: Sequence[pa.RecordBatch], *, media: Sequence[str] = (), joined: bool = False
) -> list[str]:
    """Return the arguments for a template that renders everything in the conversations; none for rendered text.

    Without a template, pairs of answers, rated answers and labelled steps are for a trainer, which renders them.
    `media` are the columns of media that the conversations need. Set `joined` if `outputs` have plain text where the
    conversations have lists of text parts.
    """
    if (asked := asked_arguments(recipe)) or is_rendered(type):
        return asked
    if type in TRAINERS:
        return ["--for", TRAINERS[type]]
    turns = [column.flatten() for batch in outputs for _, column in message_columns(batch)]
    keys = {name for turn in turns for name in turn.type.names if turn.field(name).null_count < len(turn)}
    has_tools = any("tools" in batch.schema.names for batch in outputs)
    needs_tools = has_tools or not keys.isdisjoint(("tool_calls", *REASONING_FIELDS))
    if media:
        return ["-t", "gemma-4", "--fit"] if needs_tools or "audios" in media else ["-t", "qwen2.5-vl"]
    if needs_tools:
        return ["-t", "qwen3", "--fit"]
    has_blocks = joined or any(turn.field("content").type == JSON for turn in turns if "content" in turn.type.names)
    return ["-t", "chatml", "--fit"] if has_blocks else ["-t", "chatml"]


def asked_arguments(recipe: Recipe) -> list[str]:
    """Return the arguments for the trainer and the template that the recipe names."""
    template = own_values(recipe).get("template")
    words = [*(["--for", recipe.trainer] if recipe.trainer else []), *(["-t", template] if template else [])]
    return [*words, "--fit"] if words and recipe.fit else words


TRAINERS = {"preference": "trl-dpo", "unpaired-preference": "trl-kto", "stepwise": "trl-prm"}
"""The trainers of types of data that supervised fine-tuning does not read."""


def convert_command(
    recipe: Recipe, source: Source, dialect: str, template: Sequence[str], skipping: Sequence[str] = ()
) -> str:
    """Return the command that converts the source as it was inspected, with the arguments `template` and `skipping`."""
    name = recipe.source[0].source
    words = [
        "chatfmt",
        "convert",
        *(without_credentials(spec.source) for spec in recipe.source if recipe.groups_rows or spec.source == name),
    ]
    if source.subset and recipe.name is None and source.kind == "hub":
        words += ["--name", source.subset]
    words += ["--dialect", dialect] if recipe.dialect != "auto" else []
    own = own_values(recipe)
    words += [word for key, flag in READING.items() if key in own for word in flag_arguments(flag, own[key], key)]
    last = (source.dataset_id or name).rstrip("/").split("/")[-1].split(".")[0]
    stem = re.sub(r"[*?\[\]]", "", last).strip("-_") or ("stdin" if last in ("", "-") else "data")
    suffix = template[1].split("/")[-1] if template else "text"
    return shlex.join([*words, *template, *skipping, "-o", f"{stem}-{suffix}/"])


def own_values(recipe: Recipe) -> dict[str, Any]:
    """Return the values of a recipe without those that its trainer set."""
    if recipe.trainer is None:
        return vars(recipe)
    theirs = trainers.settings(recipe.trainer, to=recipe.to, rendered=renders(recipe.template))
    transforms = {
        name: value
        for name, value in recipe.transforms.items()
        if (name, value) not in theirs.get("transforms", {}).items()
    }
    values = {key: value for key, value in vars(recipe).items() if to_plain(value) != theirs.get(key)}
    return {**values, "transforms": transforms}


READING = {
    **{key: flag_of(key) for key in (
        "name", "split", "revision", "data_files", "data_dir", "field", "header", "quote", "delimiter", "encoding",
        "map", "role", "me", "roles", "marker", "explode", "where", "group_by", "order_by", "keep", "drop",
        "fallback_template", "tokens_from", "var", "date", "generation_prompt", "continue_final", "bos", "end",
        "allow_loss", "control_tokens", "to", "allow_empty",
    )},
    "dialect_options": "--dialect-option", "transforms": "--transform", "from_rejects": "--from-rejects",
}  # fmt: skip
"""The keys of a recipe about reading and rendering a source, with their flags."""


DEFAULTS = {key.name: default_of(key) for key in dataclasses.fields(Recipe)}


def flag_arguments(flag: str, value: Any, key: str) -> list[str]:
    """Return the arguments that set a key of a recipe on the command line; none for its default."""
    if value == DEFAULTS[key]:
        return []
    if isinstance(value, Mapping):
        texts = {name: item if isinstance(item, str) else json.dumps(item) for name, item in value.items()}
        return [word for name, text in texts.items() for word in (flag, f"{name}={text}")]
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if key == "roles":
        return [flag, ",".join(value)]
    return [word for item in (value if isinstance(value, tuple) else (value,)) for word in (flag, str(item))]


ROWS = 200
"""The rows that are rendered; the loss guard checks as many of each task."""


def working_arguments(
    recipe: Recipe, sample: Sequence[pa.RecordBatch], wanted: Sequence[str], *, nulls: bool, rejected: int
) -> tuple[list[str], Job | None]:
    """Return the template arguments `wanted`, or the first others with which the sample converts, with their job.

    For messages there are neither arguments nor a job. A template that the recipe names stays. `rejected` counts the
    sampled rows that cannot be converted in any case.
    """
    others = [["-t", "qwen3", "--fit"], []] if recipe.template is None and recipe.trainer is None else []
    choices = [list(wanted), [*wanted, "--fit"], *others] if wanted else []
    jobs: list[Job | None] = []
    for arguments in choices:
        if not arguments:
            return [], None
        job, works = _tried(recipe, sample, arguments, nulls, rejected)
        if works:
            return arguments, job
        jobs.append(job)
    return list(wanted), jobs[0] if jobs else None


def tried_arguments(recipe: Recipe, plan: SourcePlan) -> list[str]:
    """Return the template arguments of the recipe, or those that `inspect` would recommend for the first rows."""
    if (asked := asked_arguments(recipe)) or plan.first_rows is None:
        return asked
    counts = RowCounts()
    outputs = list(Conversion(plan.job).convert(plan.first_rows, "", counts, ignore_rejects))
    wanted = template_arguments(recipe, plan.detection.type, outputs, media=plan.job.media)
    return working_arguments(recipe, [plan.first_rows], wanted, nulls=plan.job.nulls, rejected=counts.rejected)[0]


def _tried(
    recipe: Recipe, sample: Sequence[pa.RecordBatch], arguments: Sequence[str], nulls: bool, rejected: int
) -> tuple[Job | None, bool]:
    """Return the job with some template arguments, and whether no row fails in it that does not fail in any case."""
    job, tried = None, with_arguments(recipe, arguments)
    try:
        job, _ = to_job(tried, sample, load_template(tried), nulls=nulls)
        return job, _count_rejected(job, sample) <= rejected
    except ChatfmtError:
        return job, False


def with_arguments(recipe: Recipe, arguments: Sequence[str]) -> Recipe:
    """Return the recipe with some template arguments."""
    changed: dict[str, Any] = {"template" if arguments[0] == "-t" else "trainer": arguments[1]}
    return dataclasses.replace(recipe, **changed, fit="--fit" in arguments)


def refuse_unprinted(
    recipe: Recipe, sample: Sequence[pa.RecordBatch], arguments: Sequence[str], job: Job | None
) -> None:
    """Raise UsageError if the `job` with some template arguments would leave behind what looks like conversation."""
    if job is not None:
        asked = with_arguments(recipe, arguments)
        try:
            refuse_suspects(asked, job, lambda changed: to_job(changed, sample, job.template, nulls=job.nulls)[0])
        except UsageError as error:
            raise UsageError(f"with {shlex.join(arguments)}, {error.message}", hint=error.hint) from None


def _count_rejected(job: Job, sample: Sequence[pa.RecordBatch]) -> int:
    """Return how many of the first ROWS rows of a sample a job rejects."""
    conversion, counts, rows = Conversion(job), RowCounts(), ROWS
    for batch in sample:
        some = batch.slice(0, rows)
        for _ in conversion.convert(some, "", counts, ignore_rejects):
            pass
        rows -= len(some)
        if rows <= 0:
            break
    return counts.rejected


def error_arguments(recipe: Recipe, reasons: Mapping[str, int], findings: Mapping[str, int], rows: int) -> list[str]:
    """Return the flags that skip the rows which cannot be converted, given their number by reason.

    They also skip rows without turns, which are `findings` until then.
    """
    bad = sum(reasons.values())
    if not bad:
        return ["--on-error", "skip"] if recipe.on_error == "skip" else []
    share = 100 * (bad + max(0, findings.get("row.empty", 0) - reasons.get("row.empty", 0))) / max(rows, 1)
    return ["--on-error", "skip", *(["--max-bad", f"{math.ceil(share)}%"] if share > 10 else [])]
