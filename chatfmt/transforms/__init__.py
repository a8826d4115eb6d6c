"""Transforms: conversations → conversations, each change counted in rows.

None applies unless named. They apply in the order of `TRANSFORMS`, whatever the order of the settings. A row that no
transform concerns keeps its bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pyarrow as pa
from msgspec import Struct

from ..errors import UnknownName, UsageError
from .answers import drop_calculations, final_answer, socratic_steps
from .edit import Changed
from .ids import call_ids
from .reasoning import change_reasoning, empty_think
from .system import (
    default_system,
    developer_to_system,
    later_system,
    leading_system,
    override_system,
    rename_roles,
    system_turns,
)
from .tools import change_arguments, change_tools, drop_empty_calls, fill_call_content, split_parallel_calls
from .turns import (
    answer_results,
    drop_empty_turns,
    drop_leading_assistant,
    drop_trailing_user,
    flatten_parts,
    merge_consecutive,
    split_turns,
    write_results,
)
from .weights import change_weights

SettingKind = Literal["choice", "text", "flag", "names"]


class Transform(Struct, frozen=True):
    """One entry of TRANSFORMS: what it changes, and the values of its setting.

    The first of the `choices` changes nothing; `text` is any text, `flag` true or false, `names` an object of old names
    and new ones.
    """

    function: Callable[[pa.RecordBatch, Any], Changed]
    summary: str
    kind: SettingKind
    choices: tuple[str, ...] = ()

    @property
    def values(self) -> str:
        """The values in the syntax of help and hints."""
        return {"choice": "|".join(self.choices), "text": "TEXT", "flag": "true|false", "names": '{"OLD": "NEW"}'}[
            self.kind
        ]


def _choice(function: Callable[[pa.RecordBatch, Any], Changed], summary: str, *choices: str) -> Transform:
    return Transform(function, summary, "choice", choices)


TRANSFORMS: dict[str, Transform] = {
    "roles": Transform(rename_roles, "role names, replaced", "names"),
    "developer": _choice(developer_to_system, "developer turns, as system turns", "keep", "system"),
    "parts": _choice(flatten_parts, "content of text parts only, as text", "keep", "flatten"),
    "results": _choice(write_results, "tool results that are objects, as JSON text", "keep", "text"),
    "empty_turns": _choice(drop_empty_turns, "turns without content, call and reasoning", "keep", "drop", "drop-blank"),
    "leading_assistant": _choice(drop_leading_assistant, "assistant turns before the first user turn", "keep", "drop"),
    "trailing_user": _choice(drop_trailing_user, "user turns after the last assistant turn", "keep", "drop"),
    "socratic": _choice(socratic_steps, "socratic gsm8k answers, as one turn or one turn per step", "turn", "steps"),
    "calculator": _choice(drop_calculations, "`<<48/2=24>>` in gsm8k answers", "keep", "remove"),
    "final_answer": _choice(final_answer, "the line `#### 72` of gsm8k answers", "keep", "remove", "column", "boxed"),
    "reasoning": _choice(change_reasoning, "assistant reasoning", "keep", "last", "drop", "inline", "split"),
    "empty_think": _choice(empty_think, "the empty think block before answers", "keep", "add", "strip"),
    "empty_calls": _choice(drop_empty_calls, "`tool_calls` and `tools` that are empty lists", "keep", "drop"),
    "call_content": _choice(fill_call_content, "calls without content, with an empty text", "keep", "empty"),
    "arguments": _choice(change_arguments, "arguments of calls, as object or as text", "keep", "object", "text"),
    "parallel_calls": _choice(split_parallel_calls, "several calls of one turn", "keep", "split"),
    "call_ids": _choice(call_ids,
                        "ids of calls and results: missing, not nine characters long, or without the name of the tool",
                        "keep", "fill", "nine", "named"),
    "system": Transform(default_system, "system message for rows that have none", "text"),
    "system_override": Transform(override_system, "system message for every row, replacing its own", "text"),
    "tools": _choice(change_tools, "tool specs, bare, wrapped as functions, or in the system message", "keep", "bare",
                     "wrapped", "system"),
    "leading_system": _choice(leading_system, "several system turns at the start, as one", "keep", "join"),
    "later_system": _choice(later_system, "system turns in the middle of the conversation", "keep", "fold", "drop"),
    "system_turns": _choice(system_turns, "all system turns", "keep", "fold", "drop"),
    "user_after_tool": _choice(answer_results, "user turns right after a tool result, with an empty answer between",
                               "keep", "answer"),
    "merge": Transform(merge_consecutive, "consecutive turns of one role, joined by TEXT", "text"),
    "weights": _choice(change_weights, "the key that says whether an answer is trained", "keep", "weight", "loss",
                       "train"),
    "split_turns": Transform(split_turns, "one row per trained assistant turn, with the turns before it", "flag"),
}  # fmt: skip
"""The transforms by name, in the order in which they apply."""


SOUGHT = {
    "socratic": "line such as `Sub-question? ** working`", "calculator": "annotation such as `<<48/2=24>>`",
    "final_answer": "last line such as `#### 72`", "system": "row without a system message",
}  # fmt: skip
"""What a transform looks for, where a source without it is probably the wrong one."""


def apply(batch: pa.RecordBatch, settings: Mapping[str, Any]) -> tuple[pa.RecordBatch, Counter[str]]:
    """Apply the transforms that `settings` names; returns the batch and how many rows each transform changed.

    Counts have the name of the transform; `arguments.unparsable` counts calls, `reasoning.conflict` turns,
    `split_turns` rows added. Counts of 0 are left out. Raises UsageError as `check_settings` does.
    """
    check_settings(settings)
    counts: Counter[str] = Counter()
    for name, transform in TRANSFORMS.items():
        if name in settings and not is_off(name, settings[name]):
            batch, changed = transform.function(batch, settings[name])
            counts.update(changed)
    return batch, +counts


def is_off(name: str, value: Any) -> bool:
    """Return whether this value of the setting changes nothing."""
    transform = TRANSFORMS[name]
    return value is None or value is False or (transform.kind == "choice" and value == transform.choices[0])


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise UnknownName for a setting without a transform, UsageError for an invalid value."""
    for name, value in settings.items():
        if name not in TRANSFORMS:
            raise UnknownName.of("transform", name, TRANSFORMS)
        if value is not None and not _is_valid(TRANSFORMS[name], value):
            raise UsageError(
                f"`{value}` is not a valid value for the transform `{name}`", hint=f"{name}={TRANSFORMS[name].values}"
            )


def _is_valid(transform: Transform, value: Any) -> bool:
    if transform.kind == "choice":
        return isinstance(value, str) and value in transform.choices
    if transform.kind == "names":
        return isinstance(value, Mapping) and all(isinstance(item, str) for pair in value.items() for item in pair)
    return isinstance(value, str if transform.kind == "text" else bool)


__all__ = ["SOUGHT", "TRANSFORMS", "Changed", "Transform", "apply", "check_settings", "is_off"]
