"""Rows that cannot be converted: code, row and message, the same from JSON and from Arrow types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from chatfmt.dialects import DIALECTS, Columns, detect
from chatfmt.errors import ChatfmtError, DialectError, Location, RowError

from .batches import conversations, convert, to_batch, to_native
from .test_docstrings import DOCUMENTED, examples

GOOD = {"messages": [{"role": "user", "content": "a"}]}
BAD: dict[str, tuple[str, list[dict[str, Any]], str, Location, str]] = {
    "unknown role": (
        "messages", [GOOD, {"messages": [GOOD["messages"][0], {"role": "robot", "content": "b"}]}],
        "msg.role", Location(row=1, message=1), 'unknown role `robot`',
    ),
    "a text where a role belongs": (
        "messages", [GOOD, {"messages": [GOOD["messages"][0], {"role": "robot " * 50, "content": "b"}]}],
        "msg.role", Location(row=1, message=1), f"unknown role `{'robot ' * 33}ro…`",
    ),
    "no role": (
        "messages", [GOOD, {"messages": []}, {"messages": [{"role": None, "content": "b"}]}],
        "msg.role", Location(row=2, message=0), "the turn has no role",
    ),
    "no content": (
        "messages", [GOOD, {"messages": [GOOD["messages"][0], {"role": "assistant", "content": None}]}],
        "msg.content", Location(row=1, message=1), "the turn has no content",
    ),
    "content that is a number": (
        "messages", [GOOD, {"messages": [{"role": "user", "content": 7}]}],
        "msg.type", Location(row=1, message=0), "the content is a number, not text",
    ),
    "content that is an object": (
        "messages", [{"messages": [{"role": "user", "content": {"a": 1}}]}],
        "msg.type", Location(row=0, message=0), "the content is an object, not text",
    ),
    "no messages": (
        "messages", [GOOD, {"messages": None}],
        "col.null", Location(row=1), "column `messages` has no value",
    ),
    "messages that are text": (
        "messages", [{"messages": '[{"role": "user", "content": "a"}]'}, {"messages": "hello"}],
        "col.type", Location(row=1), "column `messages` holds text, not turns",
    ),
    "no answer": (
        "prompt-completion", [{"question": "q", "answer": "a"}, {"question": "q", "answer": None}],
        "col.null", Location(row=1), "column `answer` has no value",
    ),
    "a label that is null": (
        "unpaired-preference",
        [{"prompt": "p", "completion": "c", "label": True}, {"prompt": "p", "completion": "c", "label": None}],
        "col.null", Location(row=1), "column `label` has no value",
    ),
    "turns that are no pairs": (
        "pair-turns", [{"conversation": [{"input": "a", "output": "b"}]}, {"conversation": [{"input": "a"}]}],
        "msg.type", Location(row=1, message=0), "the turn is not a question and an answer",
    ),
    "a wrong answer": (
        "multiple-choice",
        [{"question": "q", "choices": ["a", "b"], "answer": 0}, {"question": "q", "choices": ["a", "b"], "answer": 5}],
        "col.type", Location(row=1), "the answer `5` is not one of the 2 choices",
    ),
    "another prompt than that of whole conversations": (
        "preference", [
            {"prompt": "a", "chosen": GOOD["messages"], "rejected": GOOD["messages"]},
            {"prompt": "p", "chosen": GOOD["messages"], "rejected": GOOD["messages"]},
        ],
        "pair.prompt", Location(row=1), "the conversation in `chosen` does not have the text of `prompt`",
    ),
    "no answer beside texts and turns": (
        "preference", [
            {"prompt": "p", "chosen": "a", "rejected": "b"}, {"prompt": "p", "chosen": None, "rejected": "b"},
            {"prompt": "p", "chosen": [{"role": "assistant", "content": "a"}], "rejected": "b"},
        ],
        "col.null", Location(row=1), "column `chosen` has no value",
    ),
    "a tool that is no object": (
        "messages", [{**GOOD, "tools": '[{"name": "f"}]'}, {**GOOD, "tools": "[1]"}],
        "col.type", Location(row=1), "a specification in `tools` is a number, not an object",
    ),
}  # fmt: skip

COLUMNS = {
    "messages": {"messages": "messages", "tools": "tools"},
    "prompt-completion": {"prompt": "question", "completion": "answer"},
    "unpaired-preference": {"prompt": "prompt", "completion": "completion", "label": "label"},
    "preference": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    "pair-turns": {"messages": "conversation"},
    "multiple-choice": {"prompt": "question", "choices": "choices", "answer": "answer"},
}


REFUSED: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "a winner that is none": (
        "arena", {"conversation_a": GOOD["messages"], "conversation_b": GOOD["messages"], "winner": "model_c"},
        "col.type", "the winner `model_c` is not one of `model_a`, `model_b`, `tie`, `tie (bothbad)`, `both_bad`",
    ),
    "better, where the safer one is asked for": (
        "compared", {"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 1},
        "col.null", "the row does not say which of two answers is better",
    ),
    "a label that is neither": (
        "compared", {"history": "p", "human_ref_A": "a", "human_ref_B": "b", "labels": 2},
        "col.null", "the row does not say which of two answers is better",
    ),
    "no prompt of a rated answer": (
        "rated-rows", {"prompt": None, "response": "a", "helpfulness": 1}, "col.null",
        "column `prompt` is null, not text",
    ),
    "good answers that are text": (
        "positive-negative", {"messages": GOOD["messages"], "positive_messages": "x", "negative_messages": []},
        "col.type", "column `positive_messages` is text, not lists of turns",
    ),
    "blocks for tools": (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "x"}]}]},
        "msg.type", "the content has tool blocks of Anthropic's API",
    ),
    "thinking without text": (
        "anthropic", {"messages": [{"role": "assistant", "content": [{"type": "thinking", "signature": "e"}]}]},
        "msg.type", "the block of thinking has no text",
    ),
    "a block that calls nothing": (
        "anthropic", {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": None}]}]},
        "msg.type", "the call has no name",
    ),
    "a part that calls nothing": (
        "gemini", {"contents": [{"role": "model", "parts": [{"functionCall": {"args": {"a": 1}}}]}]},
        "msg.type", "the call has no name",
    ),
    "an event that calls nothing": (
        "agent-data", {"messages": [{"class_": "api_action", "kwargs": {"a": 1}}]}, "msg.type", "the call has no name",
    ),
    "a broken turn among turns as JSON text": (
        "string-turns", {"messages": ['{"role": "user", "content": "q"}', '{"role": "assistant", "content": "bro']},
        "msg.type", "the turns are JSON, and one of them cannot be read",
    ),
    "a conversation as JSON text in a list": (
        "string-turns", {"messages": ['[{"role": "user", "content": "q"}]']},
        "msg.type", "the turns are JSON, and one of them cannot be read",
    ),
    **{
        f"{count} parts of content, the last {part}": (
            "messages", {"messages": [{"role": "tool", "content": [{"type": "text", "text": "q"}, part][-count:]}]},
            "msg.type", "a content part is neither an object nor text",
        )
        for part in ([], 5, None) for count in (1, 2)
    },
    "a lone text that begins with its role": (
        "string-turns", {"messages": ["user: q"]}, "msg.role", "each text begins with a role, `user:`",
    ),
    "a lone text that begins with its role in brackets": (
        "string-turns", {"messages": ["[Human]: q"]}, "msg.role", "each text begins with a role, `[Human]:`",
    ),
    "an observation after the input of an action": (
        "react", {"messages": [{"role": "assistant", "content": 'Action: w\nAction Input: {}\nObservation: sun'}]},
        "msg.type", "the turn goes on after the input of its action",
    ),
    "roles and contents of different number": (
        "messages", {"messages": {"role": ["user", "assistant"], "content": ["q"]}},
        "msg.type", "the lists in `messages` differ in length",
    ),
    "an input that does not open": (
        "sharegpt", {"conversations": [{"from": "human", "value": "a"}, {"from": "input", "value": "b"}]},
        "msg.role", 'unknown role `input`',
    ),
}  # fmt: skip


def variants(value: Any) -> Iterator[Any]:
    """Values of other types, and the value without each key or with a variant of what is inside."""
    yield from (None, 5, True, "", [], {}, ["s"], [None], {"a": {"b": 1}})
    if isinstance(value, dict):
        yield from ({name: item for name, item in value.items() if name != key} for key in value)
        yield from ({**value, key: inner} for key in value for inner in variants(value[key]))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from ([*value[:place], inner, *value[place + 1 :]] for inner in variants(item))


@pytest.mark.parametrize("name", [name for name in DOCUMENTED if name not in ("sharegpt", "speakers", "dolly")])
def test_a_value_of_another_type_is_read_or_refused(name: str) -> None:
    rows = examples(DIALECTS[name].convert.__doc__ or "")[0][0]
    columns = detect([to_batch(rows)], Columns(), name).columns
    refused = 0
    for row in filter(lambda row: isinstance(row, dict), variants(rows[0])):
        DIALECTS[name].find_parts(row, Columns())
        try:
            made = DIALECTS[name].convert(to_batch([row]), columns)
        except ChatfmtError:
            refused += 1
        else:
            turns = str([{**row, "tools": None} for row in conversations(made)])
            assert not [name for name in ("name", "tool_call_id") if f"'{name}': None" in turns]
    assert refused


def test_thinking_and_results_are_read_under_other_keys() -> None:
    blocks = [{"type": "thinking", "content": "plan"}, {"type": "thinking", "thinking": {"text": "more"}},
              {"type": "tool_result", "tool_use_id": "t", "content": ["no"]}]  # fmt: skip
    made, _ = convert([{"messages": [{"role": "assistant", "content": blocks}]}])
    assert made[0]["messages"] == [
        {"role": "assistant", "reasoning_content": "plan\n\nmore"},
        {"role": "tool", "tool_call_id": "t", "content": "no"},
    ]


def test_the_hint_maps_the_role() -> None:
    with pytest.raises(DialectError) as caught:
        DIALECTS["messages"].convert(to_batch([{"messages": [{"role": "robot", "content": "a"}]}]), Columns())
    assert caught.value.hint == "map it with --role robot=ROLE: system, user, assistant or tool"


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["robot", "env", "robot"], "--role robot=ROLE --role env=tool: system, user, assistant or tool"),
        (["env", "terminal", "x " * 200], "--role env=tool --role terminal=tool"),
        (list("abcdefghij"), " ".join(f"--role {name}=ROLE" for name in "abcdefgh")
         + " …: system, user, assistant or tool"),
    ],
)  # fmt: skip
def test_the_hint_maps_all_unknown_roles(names: list[str], hint: str) -> None:
    rows = [{"messages": [{"role": name, "content": "a"}]} for name in names]
    with pytest.raises(DialectError) as caught:
        DIALECTS["messages"].convert(to_batch(rows), Columns())
    assert caught.value.hint == f"map them with {hint}"


def test_a_missing_column() -> None:
    with pytest.raises(DialectError) as caught:
        DIALECTS["alpaca"].convert(
            to_batch([{"instruction": "a"}]), Columns(fields={"prompt": "instruction", "completion": "output"})
        )
    assert (caught.value.code, caught.value.message) == ("col.missing", "column `output` is missing")


def test_a_row_without_a_dialect_in_a_mixed_file() -> None:
    rows = [GOOD, {"instruction": "i", "output": "o"}, {"x": "y"}]
    with pytest.raises(DialectError) as caught:
        DIALECTS["mixed"].convert(to_batch(rows), Columns())
    assert (caught.value.code, caught.value.at) == ("col.missing", Location(row=2))


def test_an_error_inside_a_mixed_file_names_its_row() -> None:
    rows = [{"instruction": "i", "output": "o"}, GOOD, {"messages": [{"role": "robot", "content": "a"}]}]
    with pytest.raises(DialectError) as caught:
        DIALECTS["mixed"].convert(to_batch(rows), Columns())
    assert (caught.value.code, caught.value.at) == ("msg.role", Location(row=2, message=0))


def found_in(error: RowError) -> list[tuple[str, int | None, int | None, str]]:
    """Return the code, row, message and text of all errors of a batch; rows may have one together."""
    return [(each.code, row, each.at.message, each.message) for each in (error, *error.others) for row in each.rows]


@pytest.mark.parametrize("make", [to_batch, to_native], ids=["json", "native"])
@pytest.mark.parametrize("name", BAD)
def test_all_bad_rows_are_found_at_once(name: str, make: Callable[..., pa.RecordBatch]) -> None:
    dialect, rows, code, at, message = BAD[name]
    try:
        batch = make([*rows, *rows])
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pytest.skip("Arrow cannot hold these rows")
    with pytest.raises(DialectError) as caught:
        DIALECTS[dialect].convert(batch, Columns(fields=COLUMNS[dialect]))
    assert at.row is not None and caught.value.at == at
    assert found_in(caught.value) == [(code, row, at.message, message) for row in (at.row, at.row + len(rows))]


@pytest.mark.parametrize("name", REFUSED)
def test_all_refused_rows_are_found_at_once(name: str) -> None:
    dialect, row, code, message = REFUSED[name]
    with pytest.raises(DialectError) as caught:
        DIALECTS[dialect].convert(to_batch([row] * 3), Columns(options={"prefer": "safer"}))
    assert found_in(caught.value) == [(code, index, caught.value.at.message, message) for index in range(3)]
