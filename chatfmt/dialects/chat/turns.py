"""Turns as datasets write them: which keys hold their roles and contents, and columns of them as lists of structs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ... import json_columns
from ...errors import DialectError, Location, map_rows, refuse_rows
from ...field_path import value_at
from ...schema import KEYS, reasoning_field, train_flag
from ...turn_columns import fields_of, lengths_of, refuse_turns, struct_of, to_bools, to_lists, with_same_type
from ..kit.blocks import text_of
from ..kit.columns import SKIP_HINT, Columns, SourceRow, columns_named, json_type, text_columns
from ..kit.literals import read_list_literal
from ..kit.media import with_bytes_as_text
from ..kit.names import COMPLETIONS, PROMPTS
from ..kit.roles import ANY, ROLE_NAMES, role_of
from ..kit.tool_calls import named_call

ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
CONTENT_KEYS = ("content", "value", "text", "message", "utterance", "body", "parts")
SYSTEM_CONTENT_KEYS = (*CONTENT_KEYS, "system_prompt")
"""Keys that may hold the content where the others are null."""
INSTEAD_OF_CONTENT = (
    "tool_calls", "function_call", "thinking", "reasoning_content", "reasoning", "refusal", "audio",
)  # fmt: skip
"""Keys of which a turn without content needs at least one."""
_ENVELOPES = ("data", "message", "kwargs")
"""Keys of turns that may hold the turn itself: LangChain's `data`, a logged `message`."""
_OWN_CONTENT = frozenset(CONTENT_KEYS) - {"message"}


def read_turn_list(value: Any) -> list[dict[str, Any]] | None:
    """Return the turns in one value, None if it holds none.

    A value is a list of objects, one object, a list of JSON texts, an object of parallel lists (`{"role": […],
    "content": […]}`), or any of these as text. A turn inside another object is taken out of it (see `unwrap`).
    """
    value = read_list_literal(value)
    if isinstance(value, dict):
        value = transpose(value) or [value]
    if not isinstance(value, list):
        return None
    value = (marked_texts(value) if value and isinstance(value[0], str) else _named_texts(value)) or value
    if not all(isinstance(turn, dict) for turn in value):
        return None
    turns = [unwrap(turn) for turn in value]
    return join_channels(turns) if True in ["channel" in turn for turn in turns] else turns  # a third of `any`


def join_channels(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return turns of OpenAI's harmony: the text in its channel `analysis` is the reasoning of the next turn.

    A next turn of another role, with reasoning of its own, or trained otherwise, stays apart.
    """
    out: list[dict[str, Any]] = []
    for turn in map(_read_channel, turns):
        before = out[-1] if out and _is_thought(out[-1]) else None
        own = turn["reasoning_content"] if _is_thought(turn) else None
        joins = turn.get("role") == "assistant" and (own is not None or reasoning_field(turn) is None)
        if before and joins and train_flag(before) == train_flag(turn):
            kept = {key: value for key, value in before.items() if key != "channel"}
            text = "\n\n".join(filter(None, (before["reasoning_content"], own)))
            out[-1] = {**kept, **turn, "reasoning_content": text}
        else:
            out.append(turn)
    return out


def _read_channel(turn: dict[str, Any]) -> dict[str, Any]:
    """Return the turn with its text as what it is: a thought, or the arguments of a call of `functions.NAME`."""
    text, recipient = text_of(turn.get("content")), str(turn.get("recipient"))
    kept = {key: value for key, value in turn.items() if key != "content"}
    if not text or turn.get("role") != "assistant" or reasoning_field(turn) or turn.get("tool_calls"):
        return turn
    if recipient.startswith("functions."):
        return {**kept, "tool_calls": [named_call(recipient.removeprefix("functions."), text)]}
    return {**kept, "reasoning_content": text} if turn.get("channel") == "analysis" else turn


def _is_thought(turn: Mapping[str, Any]) -> bool:
    return turn.get("channel") == "analysis" and "content" not in turn and "reasoning_content" in turn


def _named_texts(value: Any) -> list[dict[str, Any]] | None:
    """Return the turns in a list of texts, each beside its role (`["user", "hi"]`) or under it (`{"user": "hi"}`)."""
    if not isinstance(value, list) or len(value) < 2:
        return None
    pairs = []
    for turn in value:
        pair = next(iter(turn.items())) if isinstance(turn, dict) and len(turn) == 1 else turn
        if not (
            isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
            and pair[0].lower() in ROLE_NAMES
        ):  # fmt: skip
            return None
        pairs.append(pair)
    return [{"role": role, "content": text} for role, text in pairs]


def marked_texts(value: Any) -> list[dict[str, Any]] | None:
    """Return the turns in a list of texts that begin with their roles (`user: hi`), of both sides; else None."""
    found = list(map(role_mark, value)) if isinstance(value, list) else []
    roles = {role for role, _ in found}
    if None in roles or not roles >= {"user", "assistant"}:
        return None
    return [{"role": role, "content": text} for role, text in found]


def role_mark(text: Any) -> tuple[str | None, str]:
    """Return the role that a text begins with, as `user` in `user: hi`, and the rest; None without one."""
    mark = _MARK.match(text) if isinstance(text, str) else None
    return (None, "") if mark is None else (ROLE_NAMES.get(mark[mark.lastindex or 0].lower()), text[mark.end() :])


_MARK = re.compile(r"\n{0,2}(?:#{1,4} ?|\*\*)?(?:<(\w+)>|\[(\w+)\]|(\w+)(?=:)):?(?:\*\*)? ?")
"""`user: `, `<user> `, `[user]: `, `### User: ` or `**User:** `."""


def _are_parallel(value: Any) -> bool:
    """Return whether a value is an object of lists, those of roles among them."""
    lists = isinstance(value, Mapping) and bool(value) and all(isinstance(items, list) for items in value.values())
    return lists and not value.keys().isdisjoint(ROLE_KEYS)


def transpose(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the turns in an object of lists of one length, None for any other object."""
    lengths = {len(items) if isinstance(items, list) else -1 for items in value.values()}
    if len(lengths) != 1 or -1 in lengths:
        return None
    return [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]


def unwrap(turn: dict[str, Any]) -> dict[str, Any]:
    """Return a turn with the keys of the object inside it that has the content, as in LangChain's `data`."""
    if not _OWN_CONTENT.isdisjoint(turn):
        return turn
    for name in _ENVELOPES:
        inner = turn.get(name)
        if isinstance(inner, dict) and not _OWN_CONTENT.isdisjoint(inner):
            return {**{key: item for key, item in turn.items() if key != name}, **inner}
    return turn


def turns_at(record: SourceRow, path: str) -> list[dict[str, Any]] | None:
    """Return the turns at a path of a row, in any form that `read_turn_list` reads; None if there are none."""
    return read_turn_list(value_at(record, path)) or None


def find_key(names: Sequence[str], wanted: Sequence[str], mapped: str | None) -> str | None:
    """Return the mapped key if it is one of `names`, else the first of `wanted` that is; None if there is none."""
    return mapped if mapped in names else next((name for name in wanted if name in names), None)


def find_turn_keys(turns: Sequence[Mapping[str, Any]] | None, columns: Columns) -> dict[str, str] | None:
    """Return the role and content keys of turns (`messages.role`, `messages.content`), None if they have no roles."""
    if not turns:
        return None
    names = tuple(dict.fromkeys(key for turn in turns for key in turn))
    content = _mapped_key(turns, columns, "content") or find_key(names, CONTENT_KEYS, None)
    role = _mapped_key(turns, columns, "role") or find_key(names, ROLE_KEYS, None) or type_key(turns, columns)
    if role is None and columns.turn_roles:
        return {"messages.content": content} if content else None
    if role is None or (content is None and not any(key in names for key in INSTEAD_OF_CONTENT)):
        return None
    return {"messages.role": role, **({"messages.content": content} if content else {})}


def find_text_and_answer(record: SourceRow, columns: Columns) -> tuple[str, str, dict[str, str] | None]:
    """Return the columns of a prompt that is text and of turns that answer it, and their keys; None for other rows."""
    completion = columns.path("completion") or next(iter(columns_named(record, COMPLETIONS)), "")
    turns = turns_at(record, completion)
    keys = find_turn_keys(turns, columns)
    prompt = columns.path("prompt") or next(iter(text_columns(record, PROMPTS) if keys else ()), "")
    answers = turns and keys and is_answer(turns[0], keys, columns)
    return prompt, completion, keys if answers and isinstance(value_at(record, prompt), str) else None


def is_answer(turn: Mapping[str, Any], keys: Mapping[str, str], columns: Columns) -> bool:
    """Return whether a turn is the assistant's, given the keys that `find_turn_keys` found."""
    name = value_at(turn, keys.get("messages.role", ""))
    return isinstance(name, str) and role_of(name, columns.roles) == "assistant"


def is_turn(record: SourceRow, columns: Columns) -> bool:
    """Return whether a row is a turn itself, whose list of turns are the replies to it."""
    keys = find_turn_keys([record], columns) or {}
    role, content = (record.get(keys.get(f"messages.{key}", "")) for key in ("role", "content"))
    return isinstance(content, str) and isinstance(role, str) and role_of(role, columns.roles) is not None


def _mapped_key(turns: Sequence[Mapping[str, Any]], columns: Columns, key: str) -> str | None:
    """Return the mapped key, or path inside a turn, if a turn has it."""
    return mapped_path(turns, columns.fields.get(f"messages.{key}"))


def mapped_path(turns: Sequence[Mapping[str, Any]], path: str | None) -> str | None:
    """Return the path to a key of turns that a turn has, without the object that `unwrap` took the turn out of."""
    if path is None:
        return None
    envelope, _, inside = path.partition(".")
    paths = [path, inside if envelope in _ENVELOPES else None]
    return next((one for one in paths if one and any(value_at(turn, one) is not None for turn in turns)), None)


def role_name(value: Any) -> str | None:
    """Return the name of a role as text, also of a number (`--role 0=user`) or `true`; None for anything else."""
    if isinstance(value, int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value if isinstance(value, str) else None


def type_key(turns: Sequence[Mapping[str, Any]], columns: Columns) -> str | None:
    """Return `type` if it holds a role in each turn, as in LangChain."""
    names = [turn.get("type") for turn in turns]
    roles = {name: role for name, role in columns.roles.items() if name != ANY}
    return "type" if all(isinstance(name, str) and role_of(name, roles) for name in names) else None


def to_turns(values: pa.Array, name: str) -> pa.ListArray:
    """Convert a column of turns to `list<struct>`; one object becomes a list of one turn."""
    if json_columns.is_turns(values.type):
        return values if not _are_wrapped(values.type.value_type) else _to_turn_lists(values, name)
    if pa.types.is_struct(values.type) and _are_lists(values):
        return _zip_lists(values, name)
    if pa.types.is_struct(values.type):
        there = values.is_valid()
        return to_lists(values.filter(there), to_bools(there).astype(np.int64), values.is_null())
    if values.type not in (json_columns.TEXT, json_columns.JSON) and not _holds_text(values.type):
        raise DialectError(f"column `{name}` holds {values.type}, not turns", at=Location(row=0), code="col.type")
    return _to_turn_lists(values, name)


def _are_wrapped(turn: pa.StructType) -> bool:
    """Return whether some turns may be inside another object (see `unwrap`), texts under roles, or in a channel."""
    names = set(turn.names) - {KEYS}
    inside = any(name in names and turn.field(name).type != json_columns.TEXT for name in _ENVELOPES)
    return inside or "channel" in names or all(name.lower() in ROLE_NAMES for name in names)


def _are_lists(values: pa.StructArray) -> bool:
    return values.type.num_fields > 0 and all(pa.types.is_list(field.type) for field in values.type)


def _holds_text(type: pa.DataType) -> bool:
    return bool(pa.types.is_list(type) and type.value_type in (json_columns.TEXT, json_columns.JSON))


def _zip_lists(values: pa.StructArray, name: str) -> pa.ListArray:
    """Return the turns in a struct of parallel lists, as `datasets` stores a `Sequence` of objects."""
    fields = fields_of(values)
    lengths = np.stack([lengths_of(column) for column in fields.values()])
    wrong = np.flatnonzero((lengths != lengths[0]).any(axis=0)).tolist()
    refuse_rows(wrong, lambda _: _unequal_lists(name))
    turns = struct_of({key: column.flatten() for key, column in fields.items()})
    return to_lists(turns, lengths[0], values.is_null())


def _unequal_lists(name: str) -> DialectError:
    return DialectError(f"the lists in `{name}` differ in length", code="msg.type")


def _to_turn_lists(values: pa.Array, name: str) -> pa.ListArray:
    def turns_in(value: Any) -> list[dict[str, Any]] | None:
        return None if value is None else _turns_value(value, name)

    return json_columns.encode_conversations(map_rows(turns_in, plain_values(values)))


def plain_values(values: pa.Array) -> list[Any]:
    """Return the Python values of a column, None if absent; lists and objects written as text are parsed."""
    return list(map(read_list_literal, json_columns.decode_or_none(values)))


def texts_as_turns(values: pa.Array, columns: Columns, role: str) -> pa.Array:
    """Return a column in which each text, unless it holds turns, is a turn of that role."""
    if values.type not in (json_columns.TEXT, json_columns.JSON):
        return values
    return json_columns.encode_values([
        [{"role": role, "content": value}]
        if isinstance(value, str) and find_turn_keys(read_turn_list(value), columns) is None
        else value
        for value in json_columns.decode_or_none(values)
    ])  # fmt: skip


def _turns_value(value: Any, name: str) -> list[dict[str, Any]]:
    turns = read_turn_list(value)
    if _are_parallel(value) and transpose(value) is None:
        raise _unequal_lists(name)
    if turns is not None:
        return turns
    if not isinstance(value, list):
        hint = SKIP_HINT if isinstance(value, str) else ""
        raise DialectError(f"column `{name}` holds {json_type(value)}, not turns", hint=hint, code="col.type")
    message, turn = next((message, turn) for message, turn in enumerate(value) if not isinstance(turn, dict))
    raise DialectError(f"the turn is {json_type(turn)}, not an object", at=Location(message=message), code="msg.type")


def first_filled(fields: Mapping[str, pa.Array], first: str | None, others: Sequence[str]) -> dict[str, pa.Array]:
    """Return the field `first`, filled where it is null from the `others`, and what is left of those."""
    out = {} if first is None else {first: fields[first]}
    for name in others if first is not None else ():
        values, other = out[first], fields.get(name)  # type: ignore[index]
        if name == first or other is None or not values.null_count or other.null_count == len(other):
            continue
        taken = pc.and_(values.is_null(), other.is_valid())
        if pc.any(taken).as_py():
            out[first] = pc.coalesce(*with_same_type(values, other))  # type: ignore[index]
            out[name] = pc.if_else(taken, pa.scalar(None, other.type), other)
    return out


def to_text_or_json(values: pa.Array, name: str, lists: pa.ListArray) -> pa.Array:
    """Return a field of turns as text or JSON; each distinct value is encoded once.

    Raises DialectError `msg.type` for values that JSON lacks.
    """
    if values.type in (json_columns.TEXT, json_columns.JSON):
        return values
    try:
        if pa.types.is_nested(values.type) and "binary" in str(values.type):
            found = [with_bytes_as_text(value) for value in json_columns.decode_values(values)]
            return json_columns.json_array(map(json_columns.to_plain, found), values.is_valid().to_pylist())
        if pa.types.is_nested(values.type):
            return json_columns.to_json(values)
        encoded = values.dictionary_encode()
        return json_columns.to_json(encoded.dictionary).take(encoded.indices)
    except TypeError as error:
        raise DialectError(
            f"the key `{name}` holds {values.type}, which is not JSON", at=Location(row=0), code="msg.type"
        ) from error
    except ValueError:
        wrong = pa.array(map(_is_beyond_json, json_columns.decode_values(values)), pa.bool_())
        lacking = DialectError(f"the key `{name}` holds NaN or infinity, which JSON lacks", code="msg.type")
        refuse_turns(lists, wrong, lambda _: lacking)
        raise


def _is_beyond_json(value: Any) -> bool:
    try:
        json_columns.dumps(value)
    except ValueError:
        return True
    return False
