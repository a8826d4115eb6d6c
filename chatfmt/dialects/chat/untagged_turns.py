"""Conversations whose turns have no roles: pairs, alternating texts, segments, steps."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from ...errors import DialectError, Location
from ...field_path import value_at
from ..dialect import Dialect
from ..kit.blocks import text_of
from ..kit.columns import (
    SKIP_HINT,
    Columns,
    SourceRow,
    columns_named,
    find_answer_sides,
    find_side_parts,
    is_reasoning,
    json_type,
    text_columns,
)
from ..kit.labels import step_labels
from ..kit.literals import are_texts, read_list_literal
from ..kit.names import MESSAGES, OBJECT_STEPS, PROMPTS, REASONING, STEP_LABELS, STEPS, SYSTEM
from ..kit.output import OutputRow, by_row
from .plain_turns import plain_turns
from .turns import CONTENT_KEYS, ROLE_KEYS, find_turn_keys, role_mark, turns_at

USER_KEYS = ("human", "user", "input", "instruction", "question", "prompt")
ASSISTANT_KEYS = ("assistant", "gpt", "bot", "output", "response", "answer", "completion")


@by_row
def pair_turns(record: SourceRow, columns: Columns) -> dict[str, Any]:
    """A list of objects with a question and an answer (Capybara, ms-swift).

    In:  `{"conversation": [{"input": "hi", "output": "hello"}, {"input": "bye", "output": ""}]}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"},
           {"role": "user", "content": "bye"}]}`

    A blank or null side makes no turn. The `system` text of a pair becomes a system turn, unless the one before had it;
    reasoning becomes `reasoning_content`, and xtuner's `output_with_loss` becomes `train`.
    Raises DialectError `col.null`, `msg.type`.
    """
    turns: list[dict[str, Any]] = []
    system: Any = None
    for message, pair in enumerate(read_list(record, columns, "messages")):
        keys = find_pair_keys([pair], columns) if isinstance(pair, Mapping) else None
        if keys is None:
            raise DialectError(
                "the turn is not a question and an answer", at=Location(message=message), code="msg.type"
            )
        named = next((pair[name] for name in columns_named(pair, SYSTEM) if name not in keys), None)
        turns += _turn("system", named, message) if named != system else []
        system = named or system
        turns += _turn("user", pair.get(keys[0]), message)
        turns += [{**turn, **_with_answer(pair, keys)} for turn in _turn("assistant", pair.get(keys[1]), message)]
    return {"messages": turns}


def _with_answer(pair: Mapping[str, Any], keys: tuple[str, str]) -> dict[str, Any]:
    """Return the other keys of the assistant turn of a pair."""
    thoughts = [pair[name] for name in columns_named(pair, REASONING) if name not in keys and is_reasoning(pair[name])]
    trained = pair.get("output_with_loss")
    return {
        **({"reasoning_content": text_of(thoughts[0])} if thoughts else {}),
        **({"train": trained} if isinstance(trained, bool) else {}),
    }


def _turn(role: str, text: Any, message: int) -> list[dict[str, Any]]:
    if text is None or (isinstance(text, str) and not text.strip()):
        return []
    _check_content(text, message)
    return [{"role": role, "content": text}]


def _check_content(text: Any, message: int) -> None:
    """Raise DialectError `msg.type` for content that is not text."""
    if not isinstance(text, str):
        raise DialectError(f"the content is {json_type(text)}, not text", at=Location(message=message), code="msg.type")


@by_row
def string_turns(record: SourceRow, columns: Columns) -> OutputRow:
    """A list of texts with alternating roles (LIMA): user and assistant, or those of `--roles`.

    In:  `{"conversations": ["hi", "hello", "bye"]}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"},
           {"role": "user", "content": "bye"}]}`

    Raises DialectError `col.null`, `msg.type`.
    """
    return {"messages": _alternating(record, columns, "messages")}


@by_row
def user_turns(record: SourceRow, columns: Columns) -> OutputRow:
    """A list of user messages (MT-Bench, Arena-Hard): a prompt without answers.

    In:  `{"turns": ["Write a post.", "Rewrite it."]}`
    or   `{"turns": [{"content": "Write a post."}, {"content": "Rewrite it."}]}`
    Out: `{"prompt": [{"role": "user", "content": "Write a post."}, {"role": "user", "content": "Rewrite it."}]}`

    Raises DialectError `col.null`, `msg.type`.
    """
    return {"prompt": _alternating(record, columns, "prompt", ("user",))}


_TURN = re.compile(r"""\s*\[?\s*\{\s*["'](role|from)["']\s*:""")


def _alternating(record: SourceRow, columns: Columns, part: str, roles: Sequence[str] = ()) -> list[dict[str, Any]]:
    roles = roles or columns.turn_roles or ("user", "assistant")
    turns = []
    for message, item in enumerate(read_list(record, columns, part)):
        text = item["content"] if part == "prompt" and _is_content(item) else item
        if not isinstance(text, str):
            raise DialectError(
                f"the turn is {json_type(text)}, not text", at=Location(message=message), code="msg.type"
            )
        if _TURN.match(text):
            raise DialectError("the turns are JSON, and one of them cannot be read", code="msg.type")
        turns.append({"role": roles[message % len(roles)], "content": text})
    marks = [role_mark(turn["content"]) for turn in turns if not columns.turn_roles]
    if marks and all(role in _SIDES for role, _ in marks):
        mark = turns[0]["content"].removesuffix(marks[0][1]).strip()
        path, marker = (shlex.quote(text) for text in (columns.path(part) or part, f"{mark}={marks[0][0]}"))
        hint = f"--map transcript={path} --marker {marker} reads it"
        raise DialectError(f"each text begins with a role, `{mark}`", hint=hint, code="msg.role")
    return turns


_SIDES = ("user", "assistant")


@by_row
def parallel_lists(record: SourceRow, columns: Columns) -> dict[str, Any]:
    """Turns in columns of their own: their roles and their contents, or those of each role.

    In:  `{"role": ["user", "assistant"], "content": ["hi", "hello"]}`
    or   `{"user": ["hi"], "assistant": ["hello"]}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`

    A last question may lack its answer. Raises DialectError `col.null`, `col.type`, `msg.role`, `msg.type`.
    """
    by_role = columns.path("turn_roles") is None
    names = ("turn_users", "turn_assistants") if by_role else ("turn_roles", "turn_contents")
    first, second = (read_list(record, columns, name) for name in names)
    if not 0 <= len(first) - len(second) <= by_role:
        raise DialectError("the lists of a conversation differ in length", code="msg.type")
    if by_role:
        texts = [text for each in zip_longest(first, second) for text in each][: len(first) + len(second)]
        first, second = ["user", "assistant"] * len(first), texts
    return {"messages": plain_turns(_turns_of(first, second), columns)}


def _turns_of(roles: Sequence[Any], texts: Sequence[Any]) -> list[dict[str, Any]]:
    """Return turns of roles and contents; raises DialectError `msg.type` for content that is not text."""
    for message, text in enumerate(texts):
        _check_content(text, message)
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


@by_row
def segments(record: SourceRow, columns: Columns) -> dict[str, Any]:
    """Segments of final text, each labelled as trained or not (axolotl).

    In:  `{"segments": [{"label": false, "text": "<s>hi"}, {"label": true, "text": "hello</s>"}]}`
    Out: `{"segments": [{"text": "<s>hi", "label": false}, {"text": "hello</s>", "label": true}]}`

    Raises DialectError `col.null`, `col.type`.
    """
    items = read_list(record, columns, "segments")
    for item in items:
        if not _is_segment(item):
            raise DialectError('a segment is not `{"label": true or false, "text": "…"}`', code="col.type")
    return {"segments": [{"text": item["text"], "label": item["label"]} for item in items]}


def _is_segment(item: Any) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("text"), str) and isinstance(item.get("label"), bool)


@by_row
def stepwise(record: SourceRow, columns: Columns) -> dict[str, Any]:
    """A prompt (text or turns), the steps of an answer, and whether each step is right (TRL's stepwise supervision).

    In:  `{"prompt": "1+1+1?", "completions": ["1+1=2", "2+1=4"], "labels": [true, false]}`
    or   `{"problem": "1+1+1?", "steps": [{"text": "1+1=2", "rating": 1}, {"text": "2+1=4", "rating": -1}]}`
    Out: `{"prompt": [{"role": "user", "content": "1+1+1?"}], "completions": ["1+1=2", "2+1=4"],
           "labels": [true, false]}`

    A label may also be 1 or 0 (or -1), `+` or `-`, or a word (see `step_labels`); one between is an error, unless
    `--label 'labels >= 0.5'` says which are right.
    Raises DialectError `col.null`, `col.type`.
    """
    steps, labels = read_list(record, columns, "completions"), read_list(record, columns, "labels")
    path = columns.path("prompt") or "prompt"
    prompt = value_at(record, path)
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else turns_at(record, path)
    if turns is None:
        raise DialectError(f"the prompt is {json_type(prompt)}, not text or turns", code="col.type")
    found = _step_labels(steps, labels)
    if found is None:
        numbers = isinstance(labels, list) and all(isinstance(label, (int, float)) for label in labels)
        path, name = columns.path("completions") or "completions", columns.path("labels") or "labels"
        raise DialectError(
            f"each text in `{path}` needs a label of right or wrong in `{name}`, such as true, 1, + or good",
            hint=f"--label '{name} >= 0.5' calls steps of at least 0.5 right"
            if numbers and name.isidentifier()
            else "",
            code="col.type",
        )
    return {"prompt": plain_turns(turns, columns), "completions": steps, "labels": found}


def _step_labels(steps: Any, labels: Any) -> list[bool] | None:
    """Return the label of each step, None if these are not steps and their labels."""
    lists = isinstance(steps, list) and isinstance(labels, list) and len(steps) == len(labels)
    return step_labels(labels) if lists and all(isinstance(step, str) for step in steps) else None


def read_list(record: SourceRow, columns: Columns, part: str) -> list[Any]:
    """Return the list of a part, parsed if it is text; raises DialectError `col.null` or `col.type`."""
    path = columns.path(part) or part
    value = read_list_literal(value_at(record, path.removesuffix("[]")))
    if value is None:
        raise DialectError(f"column `{path}` has no value", hint=SKIP_HINT, code="col.null")
    if not isinstance(value, list):
        raise DialectError(f"column `{path}` holds {json_type(value)}, not a list", code="col.type")
    return value


def find_pair_keys(pairs: Sequence[Any], columns: Columns) -> tuple[str, str] | None:
    """Return the keys of the question and the answer in pairs, None if they are not pairs."""
    if not pairs or not all(isinstance(pair, Mapping) for pair in pairs):
        return None
    mapped = (columns.fields.get("messages.user"), columns.fields.get("messages.assistant"))
    names = [(own, *keys) for own, keys in zip(mapped, (USER_KEYS, ASSISTANT_KEYS), strict=True)]
    user, assistant = (next((key for key in keys if all(key in pair for pair in pairs)), None) for keys in names)
    return (user, assistant) if user is not None and assistant is not None else None


def _find_list(record: SourceRow, columns: Columns, part: str, names: Sequence[str]) -> tuple[str, list[Any]] | None:
    """Return the column of a part and its list, None if there is no list or an empty one."""
    path = columns.path(part) or next((name for name in names if record.get(name) is not None), None)
    value = read_list_literal(value_at(record, path.removesuffix("[]"))) if path else None
    return (path, value) if path and isinstance(value, list) and value else None


def find_pair_turns_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a list of question and answer pairs."""
    found = _find_list(record, columns, "messages", MESSAGES)
    keys = find_pair_keys(found[1], columns) if found else None
    if found is None or keys is None:
        return None
    inner = {"messages.user": keys[0], "messages.assistant": keys[1]}
    return {"messages": found[0], **inner, **find_answer_sides(record, columns)}


def find_string_turns_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a list of texts in a column for conversations."""
    found = _find_list(record, columns, "messages", (*MESSAGES, "turns") if columns.turn_roles else MESSAGES)
    if found is None or not all(isinstance(text, str) for text in found[1]):
        return None
    return {"messages": found[0], **find_answer_sides(record, columns)}


def find_parallel_lists_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with lists of roles and contents, or of the texts of both sides."""
    for first, second in (("turn_roles", "turn_contents"), ("turn_users", "turn_assistants")):
        found = [next((name for name in columns_named(record, _LISTS[part]) if are_texts(record[name])), None)
                 for part in (first, second)]  # fmt: skip
        if found[0] and found[1] and 0 <= len(record[found[0]]) - len(record[found[1]]) <= 1:
            return {first: found[0], second: found[1], **find_answer_sides(record, columns)}
    return None


_LISTS = {
    "turn_roles": ROLE_KEYS, "turn_contents": CONTENT_KEYS, "turn_users": ("user", "human"),
    "turn_assistants": ("assistant", "gpt", "bot"),
}  # fmt: skip


def find_user_turns_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a list of texts in `turns`."""
    found = None if columns.turn_roles else _find_list(record, columns, "prompt", ("turns",))
    if found is None or not all(isinstance(item, str) or _is_content(item) for item in found[1]):
        return None
    return {"prompt": found[0], **find_side_parts(record, columns)}


def _is_content(item: Any) -> bool:
    """Return whether an object has content and nothing else, which could say who speaks."""
    filled = {key for key, value in item.items() if value is not None} if isinstance(item, Mapping) else set()
    return filled == {"content"} and isinstance(item["content"], str)


def find_segments_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the part of a row with a list of segments."""
    found = _find_list(record, columns, "segments", ("segments",))
    return {"segments": found[0]} if found and all(map(_is_segment, found[1])) else None


def find_stepwise_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a prompt, steps and as many labels, whatever these are.

    A row whose labels are not right or wrong is an error, so that its steps are not lost.
    """
    prompt = columns.path("prompt") or next(iter(text_columns(record, PROMPTS)), "prompt")
    labels = columns.path("labels") or columns.path("label") or next(iter(columns_named(record, STEP_LABELS)), None)
    steps = columns.path("completions") or next(iter(columns_named(record, STEPS)), None)
    if (inside := _steps_with_labels(record, steps)) and not columns.path("completions"):
        steps, labels = inside
    if labels is None or steps is None:
        return None
    if not isinstance(value_at(record, prompt), str) and (
        labels not in ("labels", columns.path("labels")) or not find_turn_keys(turns_at(record, prompt), columns)
    ):
        return None
    lists = [read_list_literal(value_at(record, path)) for path in (steps, labels)]
    if not all(isinstance(items, list) and items for items in lists) or len(lists[0]) != len(lists[1]):
        return None
    texts = all(isinstance(step, str) for step in lists[0])
    return {"prompt": prompt, "completions": steps, "labels": labels} if texts else None


def _steps_with_labels(record: SourceRow, name: str | None) -> tuple[str, str] | None:
    """Return the paths to the texts and to the labels of steps that are objects, None if there are none."""
    items = record.get(name or "")
    if name is None or name.lower() not in OBJECT_STEPS or not isinstance(items, list) or not items:
        return None
    keys = [
        next((key for key in known if all(isinstance(item, Mapping) and key in item for item in items)), None)
        for known in (("text", "content", "step", "value"), ("rating", "label", "is_correct", "correct", "score"))
    ]
    return (f"{name}[].{keys[0]}", f"{name}[].{keys[1]}") if all(keys) else None


DIALECTS = {
    "segments": Dialect(segments, find_segments_parts, "text segments, each marked as trained or not", rank=100,
                        parts=frozenset({"segments"}), type="segments"),
    "stepwise": Dialect(stepwise, find_stepwise_parts, "a prompt and answer steps labelled right or wrong", rank=105,
                        parts=frozenset({"prompt", "completions", "labels", "label"}), type="stepwise"),
    "pair-turns": Dialect(pair_turns, find_pair_turns_parts, "a list of question and answer pairs", rank=330),
    "string-turns": Dialect(string_turns, find_string_turns_parts, "a list of texts in alternating roles", rank=340),
    "parallel-lists": Dialect(parallel_lists, find_parallel_lists_parts,
                              "the roles and contents of turns, each in a list", rank=345, parts=frozenset()),
    "user-turns": Dialect(user_turns, find_user_turns_parts, "a list of user messages", rank=350,
                          parts=frozenset({"prompt"}), type="prompt-only"),
}  # fmt: skip
