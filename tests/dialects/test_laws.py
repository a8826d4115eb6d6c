"""Properties of every dialect: it adds nothing, loses nothing, and does not depend on the batch boundaries."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from chatfmt import json_columns, schema
from chatfmt.dialects import DIALECTS, Columns, detect
from chatfmt.dialects.kit.columns import has_text
from chatfmt.dialects.kit.roles import role_of

from .batches import conversations, to_batch, to_native
from .test_goldens import GOLDENS, read_golden

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
ROLES = st.sampled_from(["system", "developer", "user", "assistant", "tool"])
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2), max_leaves=4,
)  # fmt: skip
CALL_ROLES = st.lists(
    st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": TEXT, "arguments": VALUE})}), max_size=2
)
TURN = st.fixed_dictionaries(
    {"role": ROLES, "content": TEXT},
    optional={"name": TEXT, "tool_calls": CALL_ROLES, "reasoning_content": TEXT, "weight": VALUE, "extra": VALUE},
)  # fmt: skip
CONVERSATION = st.lists(TURN, min_size=1, max_size=4)
SHAREGPT = {"human": "user", "gpt": "assistant", "system": "system", "observation": "tool", "Function-Response": "tool"}


@given(st.lists(CONVERSATION, min_size=1, max_size=5))
def test_messages_are_unchanged(rows: list[list[dict[str, Any]]]) -> None:
    batch = to_batch([{"messages": turns} for turns in rows])
    made = DIALECTS["messages"].convert(batch, Columns())
    assert json_columns.decode_conversations(made.column("messages")) == rows
    assert [
        list(turn) for turns in json_columns.decode_conversations(made.column("messages")) for turn in turns or []
    ] == [list(turn) for turns in rows for turn in turns]


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(sorted(SHAREGPT)), TEXT), min_size=1, max_size=4), min_size=1, max_size=5
    )
)
def test_sharegpt_only_renames(rows: list[list[tuple[str, str]]]) -> None:
    batch = to_batch([{"conversations": [{"from": role, "value": text} for role, text in turns]} for turns in rows])
    made = conversations(DIALECTS["sharegpt"].convert(batch, Columns()))
    assert [row["messages"] for row in made] == [
        [{"role": SHAREGPT[role], "content": text} for role, text in turns] for turns in rows
    ]


@given(st.lists(st.tuples(TEXT, TEXT | st.none(), TEXT, TEXT | st.none()), min_size=1, max_size=6))
def test_flat_columns_become_turns(rows: list[tuple[str, str | None, str, str | None]]) -> None:
    fields = {"prompt": "instruction", "context": "input", "completion": "output", "system": "system"}
    names = ("instruction", "input", "output", "system")
    batch = to_batch([dict(zip(names, row, strict=True)) for row in rows])
    made = conversations(DIALECTS["alpaca"].convert(batch, Columns(fields=fields)))
    assert [row["messages"] for row in made] == [expected_flat(*row) for row in rows]


def expected_flat(instruction: str, context: str | None, output: str, system: str | None) -> list[dict[str, str]]:
    there = context is not None and context.strip() != ""
    asked = f"{instruction}\n{context}" if there and instruction else context if there else instruction
    first = [{"role": "system", "content": system}] if system is not None and system.strip() else []
    return [*first, {"role": "user", "content": asked or ""}, {"role": "assistant", "content": output}]


@given(st.lists(CONVERSATION, min_size=2, max_size=8), st.data())
def test_slices_of_a_batch(rows: list[list[dict[str, Any]]], data: st.DataObject) -> None:
    """A slice (arrays with an offset) gives its rows with their own row numbers."""
    batch = to_batch([{"messages": turns, "system": str(number)} for number, turns in enumerate(rows)], start=7)
    start = data.draw(st.integers(0, len(rows) - 1))
    length = data.draw(st.integers(1, len(rows) - start))
    columns = Columns(fields={"messages": "messages", "system": "system"}, keep=("system",))
    whole = conversations(DIALECTS["messages"].convert(batch, columns))
    part = conversations(DIALECTS["messages"].convert(batch.slice(start, length), columns))
    assert part == whole[start : start + length]
    assert [row["row"] for row in part] == list(range(7 + start, 7 + start + length))


@given(st.lists(st.lists(st.tuples(ROLES, TEXT), max_size=3) | st.none(), min_size=1, max_size=6))
def test_a_prompt_that_some_rows_lack(rows: list[list[tuple[str, str]] | None]) -> None:
    """Native Arrow lists: null lists stay null and empty lists empty, whatever values are behind a null."""
    turns = [None if row is None else [{"role": role, "content": text} for role, text in row] for row in rows]
    type = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    prompt = garbage_under_nulls(pa.array(turns, type))
    answer = pa.array([[{"role": "assistant", "content": "a"}]] * len(rows), type)
    batch = pa.RecordBatch.from_arrays(
        [pa.array(range(len(rows)), pa.int64()), prompt, answer, answer],
        names=[schema.ROW, "prompt", "chosen", "rejected"],
    )
    columns = Columns(fields={name: name for name in ("prompt", "chosen", "rejected")})
    made = DIALECTS["preference"].convert(batch, columns)
    found = (
        json_columns.decode_conversations(made.column("prompt"))
        if "prompt" in made.schema.names
        else [None] * len(rows)
    )
    assert found == turns


def garbage_under_nulls(lists: pa.ListArray) -> pa.ListArray:
    """Return the same lists with a turn of an unknown role behind each null."""
    if not lists.null_count:
        return lists
    bad = pa.array([{"role": "robot", "content": None}], lists.type.value_type)
    pieces, offsets = [], [0]
    for value in lists:
        pieces.append(bad if not value.is_valid else pa.array(value.as_py(), lists.type.value_type))
        offsets.append(offsets[-1] + len(pieces[-1]))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.concat_arrays(pieces), mask=lists.is_null())


def texts(value: Any) -> Iterator[str]:
    """Yield all texts in a value, also those in a list or an object written as text."""
    if isinstance(value, str):
        yield value
        yield from texts(written(value))
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def written(text: str) -> Any:
    """Return the list or object written as JSON, as Python or as numpy prints it; None for other text."""
    for source in (text, text.replace("}\n {", "}, {")) if text[:1] in ("[", "{") else ():
        for read in (json.loads, ast.literal_eval):
            with contextlib.suppress(ValueError, SyntaxError):
                return read(source)
    return None


PARSED = ("multiple-choice", "squad", "alpaca", "dolly", "transcript-alpaca", "preference-alpaca")
"""Golden files whose dialect joins texts; each line of their content is in the source."""


def test_every_content_is_in_the_source() -> None:
    checked = 0
    for path in GOLDENS:
        head, rows, _ = read_golden(path)
        batch = to_batch(rows)
        columns = Columns(options=head.get("options", {}))
        found = detect([batch], columns, head["dialect"])
        for row in conversations(DIALECTS[found.dialect].convert(batch, found.columns)):
            whole = rows if found.whole_file else [rows[row["row"]]]
            source = [text for record in whole for text in texts(record)] + list(
                map(str, head.get("options", {}).values())
            )
            source += [json.dumps(value, ensure_ascii=False) for value in json_results(whole)]
            for name in schema.CONVERSATION_COLUMNS:
                for turn in row.get(name, []):
                    checked += contents_are_in(turn.get("content"), source, path.stem)
    assert checked > 200


CHOOSE = frozenset({
    "arena", "compared", "scored", "rated-rows", "positive-negative", "oasst-trees", "oasst-rows", "chatgpt-export",
})  # fmt: skip
"""Dialects that choose among answers or branches."""
PARSE = frozenset({
    "anthropic", "responses", "llamafactory", "bfcl", "xlam", "glaive", "hermes", "hh", "react", "reasoning-tags",
    "tail-calls", "toolace", "transcript", "multiple-choice", "atif", "agent-data", "openhands", "gemini-cli",
})  # fmt: skip
"""Dialects that split texts or rename what they contain."""


def test_nothing_of_the_used_columns_is_lost() -> None:
    """Every text of a used column is in the conversation, as a whole or in pieces, except role names."""
    checked = 0
    for path in GOLDENS:
        head, rows, _ = read_golden(path)
        if head["dialect"] in CHOOSE | PARSE:
            continue
        columns = Columns(options=head.get("options", {}))
        found = detect([to_batch(rows)], columns, head["dialect"])
        made = conversations(DIALECTS[found.dialect].convert(to_batch(rows), found.columns))
        assert [row["row"] for row in made] == list(range(len(rows)))
        for row, source in zip(made, rows, strict=True):
            said = list(texts(row))
            sides = ["".join(turn.get("content", "") for turn in row["prompt"] + row[side])
                     for side in ("chosen", "rejected") if found.dialect == "preference" and row.get("prompt")
                     and isinstance(row["prompt"][-1].get("content"), str)]  # fmt: skip
            for name in found.used or source:
                for text in texts(source.get(name)):
                    known = role_of(text, {}) or text in ("input", "Tool")
                    whole = any(text in own for own in [*said, *sides])
                    assert known or not text.strip() or text[:1] in "[{" or whole, (path.stem, text)
                    checked += whole
    assert checked > 100


def json_results(value: Any) -> Iterator[Any]:
    """Yield the results that Bedrock holds as values, which become JSON text."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from [item] if key == "json" else json_results(item)


def contents_are_in(content: Any, source: list[str], name: str) -> int:
    lines = content.split("\n") if isinstance(content, str) and name.startswith(PARSED) else [content]
    for line in lines:
        plain = line[3:] if name.startswith("multiple-choice") and isinstance(line, str) and line[1:2] == "." else line
        letter = name.startswith("multiple-choice") and isinstance(plain, str) and len(plain) == 1
        assert letter or not isinstance(plain, str) or any(plain in text for text in source), (name, plain)
    return 1


def test_arrow_input_makes_no_python_objects(monkeypatch: Any) -> None:
    """Columnar dialects never convert a column to Python values, neither from JSON nor from Parquet."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("a column was turned into Python objects")

    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    told = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    cases: list[tuple[str, dict[str, Any], dict[str, str]]] = [
        ("messages", {"messages": talk, "system": "s"}, {"messages": "messages", "system": "system"}),
        ("sharegpt", {"conversations": told}, {"messages": "conversations"}),
        ("alpaca", {"instruction": "a", "input": "b", "output": "c"},
         {"prompt": "instruction", "context": "input", "completion": "output"}),
        ("prompt-completion", {"question": "a", "answer": "b"}, {"prompt": "question", "completion": "answer"}),
        ("preference", {"chosen": talk, "rejected": talk}, {"chosen": "chosen", "rejected": "rejected"}),
        ("conversational", {"prompt": talk[:1], "completion": talk[1:]},
         {"prompt": "prompt", "completion": "completion"}),
    ]  # fmt: skip
    batches = [
        (name, make([row] * 50), Columns(fields=fields))
        for name, row, fields in cases
        for make in (to_batch, to_native)
    ]
    for module in ("decode_values", "decode_objects", "decode_conversations"):
        monkeypatch.setattr(json_columns, module, refuse)
    for name, batch, columns in batches:
        assert DIALECTS[name].convert(batch, columns).num_rows == 50
    assert len(batches) == 12


def test_blank_means_the_same_as_in_python() -> None:
    every = [chr(number) for number in range(0x110000) if not 0xD800 <= number < 0xE000]
    found = has_text(pa.array(every)).to_numpy(zero_copy_only=False)
    assert not np.array([char.isspace() for char in every])[found].any()
    assert np.array([char.isspace() for char in every])[~found].all()
