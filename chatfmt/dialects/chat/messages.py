"""Conversations as lists of turns with a role and a content: OpenAI messages, ShareGPT and similar.

`read_turns` reads every such list, whatever its column. From Arrow input it makes Python objects only for turns whose
text is a tool call and for keys whose values are neither text nor few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ... import json_columns, schema
from ...errors import DialectError, Location
from ...field_path import value_at
from ...turn_columns import (
    concat,
    fields_of,
    location_of,
    positions_of_turns,
    stack,
    struct_of,
    to_bools,
    to_lists,
    with_turns,
)
from ..dialect import Dialect
from ..kit.columns import (
    MESSAGES,
    SKIP_HINT,
    Columns,
    SourceRow,
    ambiguous_part,
    column_at,
    find_label,
    find_side_parts,
    index_of_true,
    json_type,
    read_bools,
    read_text,
    text_columns,
)
from ..kit.literals import read_literal
from ..kit.output import conversation_batch
from ..kit.roles import map_roles
from ..kit.tool_calls import read_calls

ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
CONTENT_KEYS = ("content", "value", "text", "message", "utterance")
INSTEAD_OF_CONTENT = (
    "tool_calls", "function_call", "thinking", "reasoning_content", "reasoning", "refusal", "audio",
)  # fmt: skip
"""Keys of which a turn without content needs at least one."""


def messages(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """Lists of turns in any column, with any names for the role and content keys.

    In:  `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`
    or   `{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`

    A list may be text: JSON or a Python literal. Other keys of a turn are kept. A `function_call` turn becomes an
    assistant turn with `tool_calls`, and so does the key `function_call` (OpenAI's older format). The columns `system`
    and `tools` are read too, and a boolean `label` (unpaired preference).
    Raises DialectError `msg.role`, `msg.content`, `msg.type`, `col.missing`, `col.null`.
    """
    own: dict[str, pa.Array] = {"messages": read_required_turns(batch, columns, "messages")}
    if columns.path("label") is not None:
        own["label"] = read_bools(batch, columns, "label")
    return conversation_batch(batch, columns, own)


def conversational(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """A prompt, a completion and a label, the first two as lists of turns (TRL's conversational types).

    In:  `{"prompt": [{"role": "user", "content": "Sky?"}], "completion": [{"role": "assistant", "content": "Blue."}]}`
    Out: the same; with a `label` it is an unpaired preference, without a completion a prompt.

    Raises DialectError as `messages` does.
    """
    own: dict[str, pa.Array] = {"prompt": read_required_turns(batch, columns, "prompt")}
    if columns.path("completion") is not None:
        own["completion"] = read_required_turns(batch, columns, "completion")
    if columns.path("label") is not None:
        own["label"] = read_bools(batch, columns, "label")
    return conversation_batch(batch, columns, own)


def answered_turns(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """Turns, and the answer to them as text in another column (Llama-Nemotron).

    In:  `{"input": [{"role": "user", "content": "Sky?"}], "output": "Blue."}`
    Out: `{"messages": [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Blue."}]}`

    Raises DialectError as `messages` does.
    """
    answer = stack([("assistant", read_text(batch, columns, "completion"))])
    return conversation_batch(
        batch, columns, {"messages": concat(read_required_turns(batch, columns, "prompt"), answer)}
    )


def read_required_turns(batch: pa.RecordBatch, columns: Columns, part: str) -> pa.ListArray:
    """Return the messages column of a required part; raises DialectError `col.missing` or `col.null`."""
    path = columns.path(part) or next((name for name in MESSAGES if name in batch.schema.names), None)
    values = column_at(batch, path)
    if values is None:
        raise DialectError(
            f"column `{path or part}` is missing",
            hint=f"map it with --map {part}=COLUMN",
            at=Location(row=0),
            code="col.missing",
        )
    lists = read_turns(values, columns, path or part)
    if lists.null_count:
        raise DialectError(
            f"column `{path}` is null",
            hint=SKIP_HINT,
            at=Location(row=index_of_true(lists.is_null())),
            code="col.null",
        )
    return lists


def read_turns(values: pa.Array, columns: Columns, name: str) -> pa.ListArray:
    """Convert a column of turns to a messages column; null rows stay null.

    A value is a list of objects, one object, or either as text (JSON or a Python literal).
    """
    lists = to_turns(values, name)
    turns = lists.flatten()
    if turns.null_count:
        raise DialectError("the turn is null", at=location_of(lists, index_of_true(turns.is_null())), code="msg.type")
    if not len(turns):
        return with_turns(lists, json_columns.encode_conversations([]).flatten())
    fields = fields_of(turns)
    fields = {key: field for key, field in fields.items() if field.null_count < len(field) or key == schema.KEYS}
    return with_turns(lists, struct_of(to_message_fields(fields, lists, columns)))


def to_turns(values: pa.Array, name: str) -> pa.ListArray:
    """Convert a column of turns to `list<struct>`; one object becomes a list of one turn."""
    if json_columns.is_turns(values.type):
        return values
    if pa.types.is_struct(values.type):
        there = values.is_valid()
        return to_lists(values.filter(there), to_bools(there).astype(np.int64), values.is_null())
    if values.type not in (json_columns.TEXT, json_columns.JSON):
        raise DialectError(f"column `{name}` holds {values.type}, not turns", at=Location(row=0), code="col.type")
    return json_columns.encode_conversations(
        [None if value is None else _turns_value(value, name, row) for row, value in enumerate(plain_values(values))]
    )


def plain_values(values: pa.Array) -> list[Any]:
    """Return the Python values of a column, None if absent; lists and objects written as text are parsed."""
    found = [None if value is json_columns.ABSENT else value for value in json_columns.decode_values(values)]
    return [read_literal(value) if isinstance(value, str) else value for value in found]


def _turns_value(value: Any, name: str, row: int) -> list[dict[str, Any]]:
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list):
        raise DialectError(
            f"column `{name}` holds {json_type(value)}, not turns", at=Location(row=row), code="col.type"
        )
    for message, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise DialectError(
                f"the turn is {json_type(turn)}, not an object", at=Location(row=row, message=message), code="msg.type"
            )
    return turns


def find_key(names: Sequence[str], wanted: Sequence[str], mapped: str | None) -> str | None:
    """Return the mapped key if it is one of `names`, else the first of `wanted` that is; None if there is none."""
    return mapped if mapped in names else next((name for name in wanted if name in names), None)


def to_message_fields(fields: Mapping[str, pa.Array], lists: pa.ListArray, columns: Columns) -> dict[str, pa.Array]:
    """Convert fields of turns to fields of messages: rename keys, map roles, parse calls, encode the rest as JSON."""
    role_key = find_key(tuple(fields), ROLE_KEYS, columns.fields.get("messages.role"))
    content_key = find_key(tuple(fields), CONTENT_KEYS, columns.fields.get("messages.content"))
    roles, calls = _roles(fields, role_key, lists, columns)
    renames = {role_key: "role", content_key: "content"}
    out = {} if role_key else {"role": roles}
    for name, values in fields.items():
        if name == role_key:
            out["role"] = roles
        elif name == schema.KEYS:
            out[name] = values
        elif renames.get(name, name) not in out:
            out[renames.get(name, name)] = _to_text_or_json(values, name)
    _check_content(out, calls, lists)
    return _with_keys(read_calls(out, calls, columns), {old: new for old, new in renames.items() if old})


def _roles(
    fields: Mapping[str, pa.Array], key: str | None, lists: pa.ListArray, columns: Columns
) -> tuple[pa.Array, pa.Array]:
    if key is None or columns.turn_roles:
        names = columns.turn_roles or (None,)
        numbers = positions_of_turns(lists) % len(names)
        return map_roles(pa.array(names, json_columns.TEXT).take(pa.array(numbers)), columns.roles, lists)
    values = fields[key]
    if values.type != json_columns.TEXT:
        found = [value if isinstance(value, str) else None for value in json_columns.decode_values(values)]
        values = pa.array(found, json_columns.TEXT)
    if key == "from" and "input" not in columns.roles:
        values = _input_to_system(values, lists)
    return map_roles(values, columns.roles, lists)


def _input_to_system(names: pa.StringArray, lists: pa.ListArray) -> pa.StringArray:
    """Replace an `input` at the start of a conversation by `system`, as in KoAlpaca's ShareGPT files."""
    opens = pc.equal(names, "input").fill_null(False)
    if not pc.any(opens).as_py():
        return names
    return pc.if_else(pc.and_(opens, pa.array(positions_of_turns(lists) == 0)), "system", names)


def _to_text_or_json(values: pa.Array, name: str) -> pa.Array:
    """Return a field of turns as text or JSON; each distinct value is encoded once."""
    if values.type in (json_columns.TEXT, json_columns.JSON):
        return values
    try:
        if pa.types.is_nested(values.type):
            return json_columns.to_json(values)
        encoded = values.dictionary_encode()
        return json_columns.to_json(encoded.dictionary).take(encoded.indices)
    except TypeError as error:
        raise DialectError(
            f"the key `{name}` holds {values.type}, which is not JSON", at=Location(row=0), code="msg.type"
        ) from error


def _check_content(fields: Mapping[str, pa.Array], calls: pa.Array, lists: pa.ListArray) -> None:
    """Raise DialectError for content that is missing (`msg.content`) or neither text nor parts (`msg.type`)."""
    content = fields.get("content")
    empty = pa.array(np.ones(len(calls), bool)) if content is None else content.is_null()
    if content is not None and content.type == json_columns.JSON:
        empty = pc.or_(empty, pc.equal(content, "null").fill_null(False))
        _check_json_content(content, fields["role"], lists)
    if not pc.any(empty).as_py():
        return
    valid = pc.invert(empty)
    for name in INSTEAD_OF_CONTENT:
        if name in fields:
            valid = pc.or_(valid, fields[name].is_valid())
    if not pc.all(valid).as_py():
        bad = index_of_true(pc.invert(valid))
        raise DialectError(
            "the turn has no content",
            hint='an empty text is "", not null',
            at=location_of(lists, bad),
            code="msg.content",
        )


def _check_json_content(content: pa.Array, roles: pa.StringArray, lists: pa.ListArray) -> None:
    """Raise DialectError for JSON content that is not text or a list of parts; a tool result may be an object."""
    first = pc.utf8_slice_codeunits(content, 0, 1)
    valid = pc.is_in(first, pa.array(['"', "["], first.type))
    valid = pc.or_(valid, pc.and_(pc.equal(first, "{"), pc.equal(roles, "tool")))
    valid = pc.or_(valid, pc.equal(content, "null")).fill_null(True)
    if not pc.all(valid).as_py():
        bad = index_of_true(pc.invert(valid))
        value = json_columns.loads(content[bad].as_py())
        raise DialectError(f"the content is {json_type(value)}, not text", at=location_of(lists, bad), code="msg.type")
    blocks = pc.match_substring_regex(content, _BLOCKS).fill_null(False)
    if pc.any(blocks).as_py():
        raise DialectError(
            "the content has tool blocks of Anthropic's API",
            hint="--dialect anthropic",
            at=location_of(lists, index_of_true(blocks)),
            code="msg.type",
        )


_BLOCKS = r'"type":"tool_(use|result)"'


def _with_keys(fields: dict[str, pa.Array], renames: Mapping[str, str]) -> dict[str, pa.Array]:
    """Rename keys in `#keys` too, and put it last."""
    keys = fields.pop(schema.KEYS, None)
    if keys is None:
        return fields
    if any(old != new for old, new in renames.items()):
        encoded = keys.dictionary_encode()
        texts = [
            json_columns.dumps([renames.get(key, key) for key in json_columns.loads(text)])
            for text in encoded.dictionary.to_pylist()
        ]
        keys = pa.array(texts, json_columns.TEXT).take(encoded.indices)
    return {**fields, schema.KEYS: keys}


def turns_at(record: SourceRow, path: str) -> list[dict[str, Any]] | None:
    """Return the turns at a path of a row, parsed if they are text; None if there are none."""
    value = value_at(record, path)
    if isinstance(value, str):
        value = read_literal(value)
    if isinstance(value, dict):
        value = [value]
    return value if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value) else None


def find_turn_keys(turns: Sequence[Mapping[str, Any]] | None, columns: Columns) -> dict[str, str] | None:
    """Return the role and content keys of turns (`messages.role`, `messages.content`), None if they have no roles."""
    if not turns:
        return None
    names = tuple(dict.fromkeys(key for turn in turns for key in turn))
    role = find_key(names, ROLE_KEYS, columns.fields.get("messages.role"))
    content = find_key(names, CONTENT_KEYS, columns.fields.get("messages.content"))
    if role is None and columns.turn_roles:
        return {"messages.content": content} if content else None
    if role is None or (content is None and not any(key in names for key in INSTEAD_OF_CONTENT)):
        return None
    return {"messages.role": role, **({"messages.content": content} if content else {})}


def find_messages_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a conversation in one column; raises NoDialect for several different ones."""
    mapped = columns.path("messages")
    names = [mapped] if mapped else [name for name in MESSAGES if name in record] or _other_lists(record)
    lists = {name: turns_at(record, name) for name in names}
    found = {name: keys for name, turns in lists.items() if (keys := find_turn_keys(turns, columns))}
    if not found:
        return None
    path, keys = next(iter(found.items()))
    if any(lists[other] != lists[path] for other in found):
        raise ambiguous_part(list(found), "messages")
    label = {"label": named} if (named := find_label(record, columns)) else {}
    return {"messages": path, **keys, **label, **find_side_parts(record, columns)}


_NOT_CONVERSATIONS = frozenset({
    "prompt", "completion", "chosen", "rejected", "context", "input", "history", "tools", "documents", "completions",
    "segments", "choices", "replies", "trajectory", "conversation_a", "conversation_b", "contents",
})  # fmt: skip


def _other_lists(record: SourceRow) -> list[str]:
    """Return columns of other names that could hold a conversation, judged by their type."""
    return [name for name, value in record.items() if isinstance(value, list) and name not in _NOT_CONVERSATIONS]


def find_sharegpt_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row whose turns have `from` and `value`."""
    found = find_messages_parts(record, columns)
    return found if found and found.get("messages.role") == "from" else None


def find_speaker_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row whose turns have a speaker, or no role (with --roles)."""
    found = find_messages_parts(record, columns)
    return found if found and found.get("messages.role") not in ("role", "from") else None


def find_openai_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row whose turns have a `role`, unless their answer is in another column."""
    found = find_messages_parts(record, columns) if columns.path("messages") or not _has_target(record) else None
    return found if found and found.get("messages.role") == "role" else None


TARGETS = {"conversation_json": "target_json", "conversations_json": "target_json", "messages_json": "target_json"}
"""Columns of turns written as JSON, and the column of the answer to them (text or turns)."""


def _has_target(record: SourceRow) -> bool:
    """Return whether turns written as JSON have their answer in another column."""
    return any(record.get(turns) is not None and record.get(target) is not None for turns, target in TARGETS.items())


def _prompt_and_answer(record: SourceRow, columns: Columns) -> tuple[str, str]:
    """Return the columns of a prompt of turns and of the turns that answer it."""
    found = next(((turns, target) for turns, target in TARGETS.items() if record.get(turns)), ("", ""))
    named = found if _has_target(record) else ("prompt", "completion")
    return columns.path("prompt") or named[0], columns.path("completion") or named[1]


def find_conversational_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a prompt of turns, and an answer of turns or none."""
    prompt, completion = _prompt_and_answer(record, columns)
    keys = find_turn_keys(turns_at(record, prompt), columns)
    if keys is None or any(name in record for name in ("chosen", "rejected")):
        return None
    found = {"prompt": prompt, **keys, **find_side_parts(record, columns)}
    if value_at(record, completion) is None:
        return found if not text_columns(record, ANSWERS) else None
    if find_turn_keys(turns_at(record, completion), columns) is None:
        return None
    label = {"label": named} if (named := find_label(record, columns)) else {}
    return {**found, "completion": completion, **label}


ANSWERS = ("output", "response", "completion", "target", "answer", "target_json")


def find_answered_turns_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a prompt of turns and an answer as text."""
    mapped = columns.path("prompt")
    names = (mapped,) if mapped else ("prompt", "input", "context", "question", *TARGETS)
    prompt = next((name for name in names if find_turn_keys(turns_at(record, name), columns)), None)
    completion = columns.path("completion") or next(iter(text_columns(record, ANSWERS)), None)
    if prompt is None or completion is None or not isinstance(value_at(record, completion), str):
        return None
    keys = find_turn_keys(turns_at(record, prompt), columns) or {}
    return {"prompt": prompt, "completion": completion, **keys, **find_side_parts(record, columns)}


DIALECTS = {
    "messages": Dialect(
        messages,
        find_openai_parts,
        "turns with `role` and `content`",
        rank=300,
        parts=frozenset({"messages", "label"}),
    ),
    "sharegpt": Dialect(
        messages,
        find_sharegpt_parts,
        "turns with `from` and `value`",
        rank=310,
        parts=frozenset({"messages", "label"}),
    ),
    "speakers": Dialect(
        messages,
        find_speaker_parts,
        "turns with a speaker and a text",
        rank=320,
        parts=frozenset({"messages", "label"}),
    ),
    "conversational": Dialect(
        conversational,
        find_conversational_parts,
        "a prompt and a completion, each a list of messages",
        rank=360,
        parts=frozenset({"prompt", "completion", "label"}),
        type="prompt-only",
    ),
    "answered-turns": Dialect(
        answered_turns,
        find_answered_turns_parts,
        "a list of messages and a text that answers it",
        rank=370,
        parts=frozenset({"prompt", "completion"}),
    ),
}
