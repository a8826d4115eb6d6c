"""Conversations as lists of turns with a role and a content: OpenAI messages, ShareGPT and similar.

`read_turns` reads every such list, whatever its column. From Arrow input it makes Python objects only for turns whose
text is a tool call and for keys whose values are neither text nor few.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ... import json_columns, schema
from ...errors import DialectError
from ...field_path import FieldPath, top_level, value_at
from ...schema import REASONING_FIELDS
from ...turn_columns import (
    concat,
    fields_of,
    positions_of_turns,
    refuse_turns,
    rows_of_turns,
    stack,
    struct_of,
    to_bools,
    with_turns,
)
from ..dialect import Dialect
from ..kit.blocks import readable_content, text_of
from ..kit.columns import (
    TURN_KEYS,
    Columns,
    SourceRow,
    ambiguous_part,
    column_at,
    columns_named,
    find_answer_sides,
    find_label,
    find_side_parts,
    is_blank,
    json_type,
    missing_column,
    read_bools,
    read_text,
    refuse_nulls,
    text_columns,
)
from ..kit.names import ANSWER_LISTS, BESIDE_TURNS, COMPLETIONS, HISTORY, LAST_PROMPTS, MESSAGES, PROMPTS
from ..kit.output import conversation_batch
from ..kit.roles import map_roles, role_of
from ..kit.tool_calls import join_calls, read_calls
from .turns import (
    CONTENT_KEYS,
    INSTEAD_OF_CONTENT,
    ROLE_KEYS,
    SYSTEM_CONTENT_KEYS,
    find_key,
    find_text_and_answer,
    find_turn_keys,
    first_filled,
    is_answer,
    is_turn,
    read_turn_list,
    role_name,
    texts_as_turns,
    to_text_or_json,
    to_turns,
    turns_at,
    type_key,
)


def messages(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """Lists of turns in any column, with any names for the role and content keys.

    In:  `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`
    or   `{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}`
    Out: `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}`

    A list may be text: JSON or a Python literal. Other keys of a turn are kept. A `function_call` turn becomes an
    assistant turn with `tool_calls`, and so does the key `function_call` (OpenAI's older format). Text in the channel
    `analysis` of OpenAI's harmony becomes the reasoning of the answer that it leads to. The columns `system`
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

    A prompt that is text is a user turn.

    Raises DialectError as `messages` does.
    """
    own: dict[str, pa.Array] = {"prompt": read_required_turns(batch, columns, "prompt", "user")}
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
    part = "prompt" if columns.path("prompt") else "messages"
    return conversation_batch(batch, columns, {"messages": concat(read_required_turns(batch, columns, part), answer)})


def read_required_turns(batch: pa.RecordBatch, columns: Columns, part: str, role: str = "") -> pa.ListArray:
    """Return the messages column of a required part, in which text is a turn of the `role`, if one is given.

    Raises DialectError `col.missing` or `col.null`.
    """
    path = columns.path(part) or next((name for name in MESSAGES if name in batch.schema.names), None)
    values = column_at(batch, path)
    if values is None:
        raise missing_column(batch, f"column `{path or part}` is missing", hint=f"map it with --map {part}=COLUMN")
    lists = read_turns(texts_as_turns(values, columns, role) if role else values, columns, path or part)
    refuse_nulls(lists, path)
    return lists


def read_turns(values: pa.Array, columns: Columns, name: str) -> pa.ListArray:
    """Convert a column of turns to a messages column; null rows stay null.

    A value is a list of objects, one object, or either as text (JSON or a Python literal).
    """
    lists = to_turns(values, name)
    turns = lists.flatten()
    if turns.null_count:
        refuse_turns(lists, turns.is_null(), lambda _: DialectError("the turn is null", code="msg.type"))
    if not len(turns):
        return with_turns(lists, json_columns.encode_conversations([]).flatten())
    fields = {key: json_columns.text_of_binary(field) for key, field in fields_of(turns).items()}
    for key, field in fields.items():
        if json_columns.is_binary(field.type):
            _refuse_bytes(field, key, lists)
    fields = {key: field for key, field in fields.items() if field.null_count < len(field) or key == schema.KEYS}
    made, calls = to_message_fields(fields, lists, columns)
    return join_calls(with_turns(lists, struct_of(made)), calls)


def _refuse_bytes(values: pa.Array, key: str, lists: pa.ListArray) -> None:
    """Raise DialectError `msg.type` for the turns with bytes under a key that are not text."""
    wrong = [value is not None and json_columns.text_of_bytes(value) is None for value in values.to_pylist()]
    error = DialectError(f"the key `{key}` holds bytes that are not UTF-8", code="msg.type")
    refuse_turns(lists, pa.array(wrong), lambda _: error)


def to_message_fields(
    fields: Mapping[str, pa.Array], lists: pa.ListArray, columns: Columns
) -> tuple[dict[str, pa.Array], pa.Array]:
    """Convert fields of turns to fields of messages: rename keys, map roles, parse calls, encode the rest as JSON.

    Also return which turns are calls by their role.
    """
    fields = _with_paths(fields, columns)
    role_key = find_key(tuple(fields), ROLE_KEYS, columns.fields.get("messages.role"))
    if role_key is None and "type" in fields and not columns.turn_roles:
        role_key = type_key([{"type": name} for name in fields["type"].unique().to_pylist()], columns)
    content_key = find_key(tuple(fields), CONTENT_KEYS, columns.fields.get("messages.content"))
    filled = first_filled(fields, role_key, ROLE_KEYS) | first_filled(fields, content_key, SYSTEM_CONTENT_KEYS)
    fields = {**fields, **filled}
    roles, calls = _roles(fields, role_key, lists, columns)
    renames = {name: "role" if name in ROLE_KEYS else "content" for name in filled}
    if reasoning_key := columns.fields.get("messages.reasoning"):
        renames[reasoning_key] = _reasoning_name(reasoning_key, fields)
    renames |= {role_key or "": "role", content_key or "": "content"}
    out = {} if role_key else {"role": roles}
    for name, values in fields.items():
        new = renames[name] if name in (role_key, content_key, reasoning_key) else name
        if name == role_key:
            out["role"] = roles
        elif name == schema.KEYS:
            out[name] = values
        elif new not in out and (name not in filled or values.null_count < len(values)):
            out[new] = to_text_or_json(values, name, lists)
    for name in REASONING_FIELDS:
        key = reasoning_key if renames.get(reasoning_key or "") == name else None
        _check_reasoning(key, name, out.get(name), lists)
    out |= readable_content(out, lists)
    _check_content(out, calls, lists, columns)
    return _with_keys(read_calls(out, calls, columns, lists), renames), calls


def _check_reasoning(key: str | None, name: str, values: pa.Array | None, lists: pa.ListArray) -> None:
    """Raise DialectError `msg.type` for reasoning that is a number, or under a mapped key a boolean."""
    if values is None or values.type != json_columns.JSON:
        return

    def error(value: str) -> DialectError:
        kind = json_type(json_columns.loads(value))
        return DialectError(f"the reasoning in `{key or name}` is {kind}, not text", code="msg.type")

    refuse_turns(lists, pc.match_substring_regex(values, r"^[-\d]" if key is None else r'^[^"n\[{]'), error, values)


def _with_paths(fields: Mapping[str, pa.Array], columns: Columns) -> dict[str, pa.Array]:
    """Return the fields of turns, and those that `--map messages.role=PATH` and its like find inside them."""
    named = map(columns.fields.get, TURN_KEYS)
    paths = [path for path in named if path is not None and path not in fields and top_level(path, ()) in fields]
    if not paths:
        return dict(fields)
    turns = pa.RecordBatch.from_arrays(list(fields.values()), names=list(fields))
    return {**fields, **{path: FieldPath.parse(path).column(turns) for path in paths}}


def _reasoning_name(key: str, fields: Collection[str]) -> str:
    """Return the name under which templates find the reasoning in the field `key`: the first that is not taken."""
    return key if key in REASONING_FIELDS else next((name for name in REASONING_FIELDS if name not in fields), key)


def _roles(
    fields: Mapping[str, pa.Array], key: str | None, lists: pa.ListArray, columns: Columns
) -> tuple[pa.Array, pa.Array]:
    if key is None or columns.turn_roles:
        names = columns.turn_roles or (None,)
        numbers = positions_of_turns(lists) % len(names)
        return map_roles(pa.array(names, json_columns.TEXT).take(pa.array(numbers)), columns.roles, lists)
    values = fields[key]
    if values.type != json_columns.TEXT:
        found = [role_name(value) for value in json_columns.decode_values(values)]
        values = pa.array(found, json_columns.TEXT)
    if key == "from" and "input" not in columns.roles:
        values = _input_to_system(values, lists)
    roles, calls = map_roles(values, columns.roles, lists)
    if key == "speaker" and "system" not in map(str.lower, columns.roles):
        _refuse_systems_that_answer(roles, lists)
    return roles, calls


def _refuse_systems_that_answer(roles: pa.StringArray, lists: pa.ListArray) -> None:
    """Raise DialectError `msg.role` for a system that speaks after others where no assistant does (Schema-Guided)."""
    rows, assistant = rows_of_turns(lists), to_bools(pc.equal(roles, "assistant"))
    answers = to_bools(pc.equal(roles, "system")) & (positions_of_turns(lists) > 0) & ~np.isin(rows, rows[assistant])
    text, hint = "the system answers the user, and no assistant does", "--role system=assistant makes it the assistant"
    refuse_turns(lists, pa.array(answers), lambda _: DialectError(text, hint=hint, code="msg.role"))


def _input_to_system(names: pa.StringArray, lists: pa.ListArray) -> pa.StringArray:
    """Replace an `input` at the start of a conversation by `system`, as in KoAlpaca's ShareGPT files."""
    opens = pc.equal(names, "input").fill_null(False)
    if not pc.any(opens).as_py():
        return names
    return pc.if_else(pc.and_(opens, pa.array(positions_of_turns(lists) == 0)), "system", names)


def _check_content(fields: Mapping[str, pa.Array], calls: pa.Array, lists: pa.ListArray, columns: Columns) -> None:
    """Raise DialectError for content that is missing (`msg.content`) or neither text nor parts (`msg.type`)."""
    content = fields.get("content")
    empty = pa.array(np.ones(len(calls), bool)) if content is None else content.is_null()
    if content is not None and content.type == json_columns.JSON:
        empty = pc.or_(empty, pc.equal(content, "null").fill_null(False))
        _check_json_content(content, fields["role"], lists)
    if not pc.any(empty).as_py():
        return
    valid = pc.invert(empty)
    for name in (*INSTEAD_OF_CONTENT, columns.fields.get("messages.tool_calls", "")):
        if name in fields:
            valid = pc.or_(valid, fields[name].is_valid())
    text, hint = "the turn has no content", 'an empty text is "", not null'
    refuse_turns(lists, pc.invert(valid), lambda _: DialectError(text, hint=hint, code="msg.content"))


def _check_json_content(content: pa.Array, roles: pa.StringArray, lists: pa.ListArray) -> None:
    """Raise DialectError for JSON content that is not text or a list of parts; a tool result may be an object."""
    first = pc.utf8_slice_codeunits(content, 0, 1)
    valid = pc.is_in(first, pa.array(['"', "["], first.type))
    valid = pc.or_(valid, pc.and_(pc.equal(first, "{"), pc.equal(roles, "tool")))
    valid = pc.or_(valid, pc.equal(content, "null")).fill_null(True)

    def error(value: str) -> DialectError:
        return DialectError(f"the content is {json_type(json_columns.loads(value))}, not text", code="msg.type")

    refuse_turns(lists, pc.invert(valid), error, content)
    if pc.any(pc.match_substring_regex(content, _ODD_PARTS)).as_py():
        found = json_columns.decode_or_none(content)
        odd = pa.array(
            [isinstance(each, list) and not all(isinstance(part, (dict, str)) for part in each) for each in found]
        )
        text, hint = "a content part is neither an object nor text", "write the content as text in the source"
        refuse_turns(lists, odd, lambda _: DialectError(text, hint=hint, code="msg.type"))
    text, hint = "the content has tool blocks of Anthropic's API", "--dialect anthropic reads them, but not in pairs"
    blocks = pc.match_substring_regex(content, _BLOCKS)
    refuse_turns(lists, blocks, lambda _: DialectError(text, hint=hint, code="msg.type"))


_ODD_PARTS = r'^\[[^{"\]]|[}"],[^{"]'
"""JSON of content that may have a part which is neither an object nor text."""
_BLOCKS = r'"type":"tool_(use|result|call_response)"'


def _with_keys(fields: dict[str, pa.Array], renames: Mapping[str, str]) -> dict[str, pa.Array]:
    """Rename keys in `#keys` too, and put it last."""
    keys = fields.pop(schema.KEYS, None)
    if keys is None:
        return fields
    if any(old != new for old, new in renames.items()):
        keys = json_columns.edit_keys(keys, lambda names: _renamed(names, renames))
    return {**fields, schema.KEYS: keys}


def _renamed(keys: Sequence[str], renames: Mapping[str, str]) -> list[str]:
    """Return the keys of a turn with their new names; a key whose new name is there already keeps its own."""
    out: dict[str, None] = {}
    for key in keys:
        new = renames.get(key, key)
        out[key if new != key and (new in keys or new in out) else new] = None
    paths = [new for old, new in renames.items() if old not in keys and top_level(old, ()) in keys and "." in old]
    return [*out, *(name for name in paths if name not in out)]


def find_messages_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a conversation in one column; raises NoDialect for several different ones."""
    names = columns.paths("messages", ()) or columns_named(record, MESSAGES) or _other_lists(record, columns)
    lists = {name: turns_at(record, name) for name in names}
    found = {name: keys for name, turns in lists.items() if (keys := find_turn_keys(turns, columns))}
    if not found:
        return None
    path, keys = next(iter(found.items()))
    if any(lists[other] != lists[path] for other in found):
        raise ambiguous_part(list(found), "messages")
    label = {"label": named} if (named := find_label(record, columns)) else {}
    return {"messages": path, **keys, **label, **find_sides_of_turns(record, lists[path] or [], columns)}


def find_sides_of_turns(record: SourceRow, turns: Sequence[Mapping[str, Any]], columns: Columns) -> dict[str, str]:
    """Return the SIDE_PARTS of a row with turns: also reasoning that the turns lack, and an `instruction` beside them.

    An instruction is the system text unless the turns contain it, as in Magpie.
    """
    found = find_answer_sides(record, columns)
    if "reasoning" in found and columns.path("reasoning") is None:
        given = any(turn.get(key) is not None for turn in turns for key in REASONING_FIELDS)
        if given or _is_in(text_of(value_at(record, found["reasoning"])) or "", _texts(turns)):
            del found["reasoning"]
    beside = [] if "system" in found else text_columns(record, BESIDE_TURNS)
    if beside and columns.path("system") is None and not is_blank(record[beside[0]]):
        roles = {role_of(str(turn.get(key)), columns.roles) for turn in turns for key in ROLE_KEYS}
        if roles.isdisjoint(("system", "developer")) and not _is_in(record[beside[0]], _texts(turns)):
            found["system"] = beside[0]
    return found


def _texts(turns: Sequence[Mapping[str, Any]]) -> list[str]:
    return [turn[key] for turn in turns for key in CONTENT_KEYS if isinstance(turn.get(key), str)]


def _is_in(text: str, texts: Sequence[str]) -> bool:
    return any(text.strip() in other for other in texts)


_NOT_CONVERSATIONS = frozenset({
    "prompt", "completion", "chosen", "rejected", "context", "input", "tools", "documents", "completions",
    "segments", "choices", "replies", "conversation_a", "conversation_b", "contents", "answer", "response",
})  # fmt: skip


def _other_lists(record: SourceRow, columns: Columns) -> list[str]:
    """Return columns of other names that could hold a conversation, judged by their type.

    A `history` may be one only if no question or answer follows it, a `trajectory` if no answer is `chosen`.
    """
    lists = [
        name for name, value in record.items() if isinstance(value, list) and name.lower() not in _NOT_CONVERSATIONS
    ]
    if not lists or is_turn(record, columns):
        return []
    if text_columns(record, PROMPTS) and text_columns(record, COMPLETIONS):  # beside which texts are no turns
        lists = [name for name in lists if not isinstance(next(iter(record[name]), None), str)]
    before = HISTORY if text_columns(record, (*PROMPTS, *LAST_PROMPTS, *COMPLETIONS)) else ()
    others = {*before, *(("trajectory",) if "chosen" in record else ()), *(_target(record) or ())}
    return [name for name in lists if name.lower() not in others]


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
    found = find_messages_parts(record, columns) if columns.path("messages") or _target(record) is None else None
    return found if found and found.get("messages.role") == "role" else None


TARGETS = {
    "conversation_json": "target_json", "conversations_json": "target_json", "messages_json": "target_json",
    "input": "output", "gen_ai.input.messages": "gen_ai.output.messages",
}  # fmt: skip
"""Columns of turns, and the column of the answer to them (text or turns): exports of chats, logs of OpenTelemetry."""


def _target(record: SourceRow) -> tuple[str, str] | None:
    """Return the columns of TARGETS that a row has; `input` and `output` may also be other data."""
    for turns, target in TARGETS.items() if not TARGETS.keys().isdisjoint(record) else ():
        pair = (record.get(turns), record.get(target))
        is_sure = turns != "input" or (all(map(read_turn_list, pair)) and not any(map(record.get, MESSAGES)))
        if None not in pair and is_sure:
            return turns, target
    return None


def _prompt_and_answer(record: SourceRow, columns: Columns) -> tuple[str, str]:
    """Return the columns of a prompt of turns and of the turns that answer it."""
    named = _target(record) or ("prompt", "completion")
    return columns.path("prompt") or named[0], columns.path("completion") or named[1]


def find_conversational_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a prompt of turns, and an answer of turns or none."""
    prompt, completion = _prompt_and_answer(record, columns)
    keys = find_turn_keys(turns_at(record, prompt), columns)
    if keys is None:
        prompt, completion, keys = find_text_and_answer(record, columns)
    is_pair = not columns.path("completion") and any(name in record for name in ("chosen", "rejected"))
    if keys is None or is_pair:
        return None
    found = {"prompt": prompt, **keys, **find_side_parts(record, columns)}
    if value_at(record, completion) is None:
        return found if not _has_answers(record) else None
    if find_turn_keys(turns_at(record, completion), columns) is None:
        return None
    label = {"label": named} if (named := find_label(record, columns)) else {}
    return {**found, **find_answer_sides(record, columns), "completion": completion, **label}


ANSWERS = (*COMPLETIONS, "target_json")


def _has_answers(record: SourceRow) -> bool:
    """Return whether a row has an answer or several."""
    lists = [record[name] for name in columns_named(record, ANSWER_LISTS)]
    return bool(text_columns(record, ANSWERS)) or any(isinstance(answers, list) and answers for answers in lists)


def find_answered_turns_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    """Return the parts of a row with a prompt of turns and an answer as text.

    A row whose turns are only the history of a question in another column is not one, nor, unless `prompt` is mapped,
    one whose turns end with an answer: the question to the other answer is somewhere else.
    """
    mapped = columns.path("prompt") or columns.path("messages")
    usual = ("prompt", "input", "context", "question", *HISTORY, *filter(record.__contains__, TARGETS))
    names = (mapped,) if mapped else usual
    prompt = next((name for name in names if find_turn_keys(turns_at(record, name), columns)), None)
    completion = columns.path("completion") or next(iter(text_columns(record, ANSWERS)), None)
    if prompt is None or completion is None or not isinstance(value_at(record, completion), str):
        return None
    turns = turns_at(record, prompt) or []
    texts = _texts(turns)
    asked = [record[name] for name in text_columns(record, (*PROMPTS, *LAST_PROMPTS)) if name != completion]
    if not mapped and prompt in ("context", *HISTORY) and any(not _is_in(text, texts) for text in asked):
        return None
    keys = find_turn_keys(turns, columns) or {}
    if not columns.path("prompt") and is_answer(turns[-1], keys, columns):
        return None
    return {"prompt": prompt, "completion": completion, **keys, **find_sides_of_turns(record, turns, columns)}


DIALECTS = {
    "messages": Dialect(messages, find_openai_parts, "turns with `role` and `content`", rank=300,
                        parts=frozenset({"messages", "label"})),
    "sharegpt": Dialect(messages, find_sharegpt_parts, "turns with `from` and `value`", rank=310,
                        parts=frozenset({"messages", "label"})),
    "speakers": Dialect(messages, find_speaker_parts, "turns with a speaker and a text", rank=320,
                        parts=frozenset({"messages", "label"})),
    "conversational": Dialect(conversational, find_conversational_parts,
                              "a prompt and a completion, each a list of messages", rank=360,
                              parts=frozenset({"prompt", "completion", "label"}), type="prompt-only"),
    "answered-turns": Dialect(answered_turns, find_answered_turns_parts,
                              "a list of messages and a text that answers it", rank=370,
                              parts=frozenset({"prompt", "messages", "completion"})),
}  # fmt: skip
