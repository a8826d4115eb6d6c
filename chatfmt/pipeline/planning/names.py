"""Refuse names in a recipe that mean nothing: roles, fields, options of dialects, losses, keys, paths of `--drop`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ... import checks, dialects
from ...dialects import Detection
from ...dialects.chat.turns import ROLE_KEYS, mapped_path, role_name, turns_at
from ...dialects.kit.columns import ALIASES, INNER_KEYS, OPTIONS, TURN_KEYS, records_of
from ...dialects.kit.roles import ANY, role_of
from ...errors import UnknownName, UsageError
from ...field_path import path_of, top_level, value_at
from ...json_columns import message_columns
from ...mapping.plan import TURN_FIELDS
from ...recipe import Recipe
from ...render.sandbox.expressions import expression
from ...schema import MEDIA, ROLES, TRAIN_KEYS
from ...turn_columns import field
from ..conversion.job import Job
from ..conversion.output.columns import columns_of_turns, is_kept
from ..conversion.source_rows import column_names
from ..ledger.ledger import PRINTED, turn_keys
from .left_behind import Conversations

LOSSES = (*ROLES, "content", "reasoning", "tool_calls", "tools", "documents", *MEDIA, "all")
"""The values of `--allow-loss`; a part of content may also be named by its type."""
PART_TYPES = ("image", "image_url", "video", "audio", "file", "document", "refusal")
_SPEAKERS = 8
_LOOKED_AT = 100
"""The sampled rows whose turns are searched for a mapped key."""


def check_names(recipe: Recipe) -> None:
    """Raise UnknownName for a name in the recipe that means nothing to chatfmt."""
    checks.check_codes(recipe.fail_on)
    check_aliases(recipe)
    check_kept_and_dropped(recipe)
    check_conditions(recipe.where)
    for kind, given, known in _names(recipe):
        for name in given:
            if name not in known:
                raise UnknownName.of(kind, name, known)
    for marker, role in recipe.marker.items():
        if role_of(role, recipe.role_names) is None:
            raise UnknownName.of(f"role of the marker `{marker}`", role, ROLES)


def check_conditions(conditions: Sequence[str]) -> None:
    """Raise UsageError for one of several conditions that is not an expression by itself."""
    for condition in conditions if len(conditions) > 1 else ():
        if "{{" in condition or "{%" in condition:
            raise UsageError(f"`--where '{condition}'` has braces", hint="write an expression: `score > 3`")
        expression(condition)


def check_kept_and_dropped(recipe: Recipe) -> None:
    """Raise UsageError for a name that is both kept and dropped, also as one of the keys of `messages.*`."""
    for name in recipe.keep:
        if name in recipe.drop:
            raise UsageError(f"`{name}` is in both --keep and --drop", hint="leave it out of one of them")
        outer = name.replace("[]", "").rpartition(".")[0]
        if f"{outer}.*" in (path.replace("[]", "") for path in recipe.drop):
            raise UsageError(
                f"`--drop '{outer}.*'` drops all keys, and `--keep {name}` exempts none",
                hint=f"drop the others by name, as in --drop {outer}.KEY",
            )


def check_aliases(recipe: Recipe) -> None:
    """Raise UsageError for a part that is mapped under two names, as `user` and `prompt`."""
    for alias, part in ALIASES.items():
        if recipe.map.get(alias, recipe.map.get(part)) != recipe.map.get(part, recipe.map.get(alias)):
            raise UsageError(
                f"`--map {alias}={recipe.map[alias]}` and `--map {part}={recipe.map[part]}` name one part of the row",
                hint="leave one of them out",
            )


def check_dropped_paths(
    recipe: Recipe, job: Job, sample: Sequence[pa.RecordBatch], conversations: Conversations
) -> None:
    """Raise UsageError for a path of `--drop` inside a column that is written whole, or that no sampled row has."""
    columns = column_names(sample)
    for path in () if recipe.groups_rows else recipe.drop:
        column = top_level(path, columns)
        if column == path or "." not in path:
            continue
        keys = [step.partition("[")[0] for step in path.removeprefix(column).split(".")[1:]]
        if column in job.columns.keep or (job.columns.keep == "all" and column in {*columns} - job.ledger.used):
            _refuse_inside_kept(job, path, column)
        elif column in columns_of_turns(job):
            _check_turn_keys(job, path, column, keys, conversations)
        else:
            _check_inner_keys([record.get(column) for batch in sample for record in records_of(batch)], path, keys)


def _refuse_inside_kept(job: Job, path: str, column: str) -> None:
    whole = f"--drop {column} leaves all of it behind" if job.columns.keep == "all" else f"leave out --keep {column}"
    raise UsageError(
        f"`--drop {path}` is inside the column `{column}`, which --keep writes whole",
        hint=f"{whole}; --map NAME={column}.KEY --keep NAME writes one value of it",
    )


def _check_turn_keys(job: Job, path: str, column: str, keys: Sequence[str], conversations: Conversations) -> None:
    """Raise UsageError for a path inside a key that is written whole with its turn."""
    if len(keys) < 2 or keys[0] in {*PRINTED, *TRAIN_KEYS} or job.ledger.printed is not None:
        return
    if any(keys[0] in turn_keys(batch) for batch in conversations()):
        raise UsageError(
            f"`--drop {path}` is inside the key `{keys[0]}`, which is written whole with its turn",
            hint=f"--drop {column}.{keys[0]} leaves all of it behind",
        )


def _check_inner_keys(values: Sequence[Any], path: str, keys: Sequence[str]) -> None:
    """Raise UsageError if no value has such keys; text may hold JSON with any keys."""
    for key in keys:
        values = [item for value in values for item in (value if isinstance(value, list) else [value])]
        if key == "*" or any(isinstance(value, str) and value.lstrip()[:1] in ("[", "{") for value in values):
            return
        names = {name for value in values if isinstance(value, Mapping) for name in value}
        if key not in names and any(value is not None for value in values):
            there = f"the keys there are {', '.join(f'`{name}`' for name in sorted(names))}" if names else ""
            raise UsageError(f"no sampled row has `{path}`, which --drop names", hint=there)
        values = [value[key] for value in values if isinstance(value, Mapping) and key in value]


def check_train_roles(recipe: Recipe, conversations: Conversations) -> None:
    """Raise UsageError for a role of `--train-roles` that no sampled row has; rows that cannot be read do not count."""
    if recipe.train_roles == ("assistant",):
        return
    found = dict.fromkeys(role for batch in conversations() for role in _roles(batch))
    for role in recipe.train_roles if found else ():
        if role not in found:
            raise UsageError(
                f"no sampled row has a turn of the role `{role}`, which `--train-roles` names",
                hint=f"the roles are {', '.join(f'`{name}`' for name in found)}",
            )


def empty_paths(recipe: Recipe, sample: Sequence[pa.RecordBatch]) -> Iterator[str]:
    """Yield a note for each path into a column that the recipe names and that leads nowhere in the sampled rows."""
    if not sample or recipe.explode or recipe.groups_rows or recipe.about is not None:
        return
    names = column_names(sample)
    mapped = {f"--map {part}": text for part, text in recipe.map.items() if "." not in part}
    for flag, text in {**mapped, "--dedup-by": recipe.dedup_by, "--split-by": recipe.split_by}.items():
        path = None if text is None or text in names else path_of(text)
        if (
            path is not None
            and path.root in names
            and all(path.column(rows).null_count == len(rows) for rows in sample)
        ):
            yield f"no sampled row has a value at `{text}`, which {flag} names"


def unused_roles(recipe: Recipe, detection: Detection, sample: Sequence[pa.RecordBatch]) -> Iterator[str]:
    """Yield a note for each name of `--role` that no sampled turn has."""
    names = [name for name in recipe.role if name != ANY]
    turns = [turn for batch in (sample if names else ()) for turn in _turns(detection, records_of(batch))]
    keys = (recipe.map.get("messages.role", "type"), *ROLE_KEYS)
    found = {role_name(value_at(turn, key)) for turn in turns for key in keys} - {None}
    known = {str(name).lower() for name in found}
    unused = [name for name in names if known and name.lower() not in known]
    yield from (f"no sampled turn has the role `{name}`, which --role names" for name in unused)


def _roles(conversations: pa.RecordBatch) -> Iterator[str]:
    for _, column in message_columns(conversations):
        roles = field(column.flatten(), "role").unique().to_pylist()
        yield from (role for role in roles if isinstance(role, str))


def _names(recipe: Recipe) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    """Yield each kind of names, those that the recipe has, and those that are known."""
    yield "role", tuple(recipe.role.values()), ROLES
    yield "role", recipe.train_roles, ROLES
    yield "dialect option", tuple(recipe.dialect_options), OPTIONS
    yield "loss", tuple(name for name in recipe.allow_loss if name not in PART_TYPES), LOSSES
    fields = tuple(name for name in recipe.map if "." not in name and not is_kept(recipe, name))
    yield "field", fields, sorted({*dialects.known_parts(), *TURN_FIELDS, "transcript"})
    yield "field", tuple(name for name in recipe.map if "." in name), INNER_KEYS


def check_keys(recipe: Recipe, detection: Detection, sample: Sequence[pa.RecordBatch]) -> None:
    """Raise UsageError for a mapped key that no turn of the sampled rows has, and for a speaker without a turn."""
    keys = {part: path for part, path in recipe.map.items() if part in TURN_KEYS}
    if not keys and recipe.me is None:
        return
    turns = list[Mapping[str, Any]]()
    parts = (batch.slice(*rows) for batch in sample[:1] for rows in ((0, _LOOKED_AT), (_LOOKED_AT,)))
    for batch in (*parts, *sample[1:]):
        turns += _turns(detection, records_of(batch))
        if all(mapped_path(turns, path) for path in keys.values()):
            break
    names = ", ".join(f"`{key}`" for key in dict.fromkeys(key for turn in turns for key in turn))
    for part, path in keys.items():
        if mapped_path(turns, path) is None:
            there = f"their keys are {names}" if turns else "the rows have no turns"
            raise UsageError(f"`--map {part}={path}`: no sampled turn has that key", hint=there)
    if recipe.me is not None:
        path = recipe.map.get("messages.role", "")
        found = [role_name(value_at(turn, key)) for turn in turns for key in (path, *ROLE_KEYS) if key]
        speakers = dict.fromkeys(name for name in found if name is not None)
        if recipe.me not in speakers:
            listed = ", ".join(f"`{name}`" for name in list(speakers)[:_SPEAKERS])
            raise UsageError(
                f"no sampled turn is by `{recipe.me}`", hint=f"the speakers are {listed}" if listed else ""
            )


def _turns(detection: Detection, records: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    paths = [path for part, path in detection.columns.fields.items() if "." not in part]
    for record in records:
        for path in paths:
            yield from turns_at(record, path) or []
