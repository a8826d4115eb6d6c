"""The command that converts a source as it was inspected."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...json_columns import JSON
from ...recipe import Recipe
from ...schema import REASONING_FIELDS
from ...sources import Source
from ...stores import without_credentials
from ...validation import default_of, flag_of
from ...views import is_rendered
from .statistics import turns_of


def template_arguments(
    recipe: Recipe, type: str, outputs: Sequence[pa.RecordBatch], *, media: Sequence[str] = (), joined: bool = False
) -> list[str]:
    """Return the arguments for a template that renders everything in the conversations; none for rendered text.

    `media` are the columns of media that the conversations need. Set `joined` if `outputs` have plain text where the
    conversations have lists of text parts.
    """
    if recipe.template is not None or is_rendered(type):
        return ["-t", recipe.template] if recipe.template else []
    turns = [column.flatten() for batch in outputs for column in turns_of(batch)]
    keys = {name for turn in turns for name in turn.type.names if turn.field(name).null_count < len(turn)}
    has_tools = any("tools" in batch.schema.names for batch in outputs)
    needs_tools = has_tools or not keys.isdisjoint(("tool_calls", *REASONING_FIELDS))
    if media:
        return ["-t", "gemma-4", "--fit"] if needs_tools or "audios" in media else ["-t", "qwen2.5-vl"]
    if needs_tools:
        return ["-t", "qwen3", "--fit"]
    has_blocks = joined or any(turn.field("content").type == JSON for turn in turns if "content" in turn.type.names)
    return ["-t", "chatml", "--fit"] if has_blocks else ["-t", "chatml"]


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
    words += [word for key, flag in READING.items() for word in flag_arguments(flag, getattr(recipe, key), key)]
    stem = (source.dataset_id or name).rstrip("/").split("/")[-1].split(".")[0] or "stdin"
    suffix = template[1].split("/")[-1] if template else "text"
    return shlex.join([*words, *template, *skipping, "-o", f"{'stdin' if stem == '-' else stem}-{suffix}/"])


READING = {
    **{key: flag_of(key) for key in (
        "name", "split", "revision", "data_files", "data_dir", "field", "header", "quote", "delimiter", "encoding",
        "map", "role", "me", "roles", "marker", "explode", "where", "group_by", "order_by", "keep", "drop",
    )},
    "dialect_options": "--dialect-option", "transforms": "--transform", "from_rejects": "--from-rejects",
}  # fmt: skip
"""The keys of a recipe about reading a source, with their flags."""


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
