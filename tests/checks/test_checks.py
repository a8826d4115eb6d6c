"""Every check finds what it says, with row and turn, and nothing in what is well."""

from __future__ import annotations

import gc
import json
from collections import Counter
from itertools import product
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given

from chatfmt import checks, transforms
from chatfmt.errors import CheckError, Location, UnknownName
from chatfmt.json_columns import encode_conversations
from chatfmt.schema import ROLES
from tests.conftest import SHARED, needs_shared
from tests.transforms.conversations import ROWS, to_batch

LIMITS = checks.Limits(written=True, max_chars=30, encodes_twice=lambda: True)


def turn(role: Any, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(arguments: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", **more, "function": {"name": "f", "arguments": arguments}}


def found(*turns: Any, codes: Any = None, column: str = "messages", **others: Any) -> list[tuple[Any, ...]]:
    """(code, message, detail) of all that is found in one row."""
    findings = checks.run(to_batch([{column: list(turns), **others}]), codes, LIMITS)
    assert {finding.row for finding in findings} <= {0}
    return [(finding.code, finding.message, finding.detail) for finding in findings if finding.column == column]


U, A = turn("user", "hi"), turn("assistant", "hello")
CASES: dict[str, tuple[list[Any], list[tuple[Any, ...]]]] = {
    "well": ([turn("system", "s"), U, A, U, A], []),
    "unknown role": ([U, turn("robot", "x")], [("msg.role", 1, "role `robot` is not known")]),
    "no role": ([U, {"content": "x"}], [("msg.role", 1, "the turn has no role")]),
    "role that is no text": (
        [turn(3, "x"), A], [("msg.no_user", None, "no user turn"), ("msg.role", 0, "role `3` is not known")],
    ),
    "content of the wrong type": (
        [turn("user", 3), turn("assistant", {"a": 1}), turn("user", True), A],
        [
            ("msg.type", 0, "the content is the number 3"), ("msg.type", 1, "the content is an object"),
            ("msg.type", 2, "the content is true"),
        ],
    ),
    "an object as a result": ([U, turn("assistant", None, tool_calls=[call({})]), turn("tool", {"t": 3}), A], []),
    "calls that are no list": (
        [U, turn("assistant", "x", tool_calls={"name": "f", "arguments": {}})],
        [("msg.type", 1, "`tool_calls` is an object, not a list")],
    ),
    "no content": ([U, turn("assistant", None)], [("msg.null", 1, "the turn has no content")]),
    "no key content": ([U, {"role": "assistant"}], [("msg.null", 1, "the turn has no content")]),
    "no content but a call": ([U, turn("assistant", None, tool_calls=[call({})])], []),
    "no calls after all": ([U, turn("assistant", None, tool_calls=[])], [("msg.null", 1, "the turn has no content")]),
    "no content but reasoning": ([U, turn("assistant", "", reasoning_content="hm")], []),
    "the same reasoning in two fields": (
        [
            U, turn("assistant", "x", thinking="r", reasoning="r"), U,
            turn("assistant", "x", thinking="r", reasoning=" "),
        ],
        [],
    ),
    "different reasoning in two fields": (
        [
            turn("user", "x", thinking="r", reasoning="s"), turn("assistant", "x", thinking="r", reasoning="s"), U,
            turn("assistant", "x", thinking="r", reasoning=["r"]), U,
            turn("assistant", "x", thinking="r", reasoning_content=""),
        ],
        [
            ("msg.reasoning_conflict", 1, "`thinking` and `reasoning` differ, and templates print one of them"),
            ("msg.reasoning_conflict", 3, "`thinking` and `reasoning` differ, and templates print one of them"),
            (
                "msg.reasoning_conflict", 5,
                "`reasoning_content` and `thinking` differ, and templates print one of them",
            ),
        ],
    ),
    "reasoning twice": (
        [
            U, turn("assistant", "<think>r</think>x", reasoning_content="r"), U,
            turn("assistant", "</think>", thinking=""),
        ],
        [("msg.reasoning_twice", 1, "reasoning in a field and inside the text")],
    ),
    "reasoning without its end": (
        [
            U, turn("assistant", "<think>r"), turn("user", "<think>"),
            turn("assistant", "<think>r</think>x\n <think>s"), U,
            turn("assistant", "x", reasoning_content="<reasoning>r"), U,
            turn("assistant", "Write `<think>` before it.</think>"), U,
            turn("assistant", "r</think>Write `<think>` before it."),
        ],
        [
            ("msg.reasoning_open", 1, "`<think>` is not closed"),
            ("msg.reasoning_open", 3, "`<think>` is not closed"),
            ("msg.reasoning_open", 5, "`<reasoning>` is not closed"),
            ("row.too_long", None, "120 characters, over 30"),
        ],
    ),
    "empty": (
        [turn("system", ""), U, turn("assistant", [])],
        [("msg.empty", 0, "the content is empty"), ("msg.empty", 2, "the content is empty")],
    ),
    "empty result": ([U, turn("assistant", None, tool_calls=[call({})]), turn("tool", ""), A], []),
    "white space": ([U, turn("assistant", " \n\u00a0")], [("msg.blank", 1, "the content is white space")]),
    "white space beside parts": (
        [turn("user", [{"type": "text", "text": "x"}]), turn("assistant", " \n")],
        [("msg.blank", 1, "the content is white space")],
    ),
    "twice the user": ([U, U, A], [("msg.order", 1, "`user` follows `user`")]),
    "twice the system": ([turn("system", "s")] * 2 + [U, A], []),
    "twice the assistant": ([U, A, A], [("msg.order", 2, "`assistant` follows `assistant`")]),
    "assistant first": ([A, U, A], [("msg.order", 0, "the first role is `assistant`")]),
    "assistant after system": ([turn("system", "s"), A, U, A], [("msg.order", 1, "`assistant` follows `system`")]),
    "system turn in the middle": ([U, turn("system", "s"), A], [("msg.order", 1, "`system` follows `user`")]),
    "system and developer": ([turn("system", "s"), turn("developer", "d"), U, A], []),
    "no user": ([turn("system", "s")], [("msg.no_user", None, "no user turn")]),
    "user last": ([U, A, U], [("msg.ends_user", 2, "the last role is `user`")]),
    "no turns": ([], [("row.empty", None, "no turns")]),
    "nothing said": (
        [turn("user", ""), turn("assistant", " ")],
        [
            ("row.blank", None, "all content is empty or white space"), ("msg.empty", 0, "the content is empty"),
            ("msg.blank", 1, "the content is white space"),
        ],
    ),
    "result without a call": (
        [U, turn("tool", "r"), A],
        [("msg.order", 1, "`tool` follows `user`"), ("tool.orphan", 1, "no call comes before the result")],
    ),
    "result of another call": (
        [
            U, turn("assistant", "x", tool_calls=[call({}, id="1")]), turn("tool", "r", tool_call_id="2"),
            turn("tool", "r", tool_call_id="1"), A,
        ],
        [("tool.orphan", 2, "no call has the id `2`")],
    ),
    "legacy call": (
        [U, turn("assistant", None, function_call={"name": "f", "arguments": {}}), turn("tool", "r"), A], [],
    ),
    "arguments": (
        [U, turn("assistant", None, tool_calls=[call("{a"), call('{"a": 1}'), call("[1]"), call({"a": 1})])],
        [
            ("tool.arguments", 1, "the arguments of call 0 are not a JSON object"),
            ("tool.arguments", 1, "the arguments of call 2 are not a JSON object"),
            (
                "tool.encoded", 1,
                "the template prints the arguments of call 1, which are JSON text, as a quoted string",
            ),
        ],
    ),
    "legacy arguments": (
        [U, turn("assistant", None, function_call={"name": "f", "arguments": ""})],
        [("tool.arguments", 1, "call 0 has no `arguments`")],
    ),
    "integers beyond 64 bits": (
        [
            U,
            turn("assistant", "", tool_calls=[call({"b": {"c": -(2**63) - 1}, "a": [2**64 - 1, 2**64, str(2**64)]})]),
            turn("tool", {"n": 10**20}), A,
        ],
        [
            ("json.integer", 1, "`tool_calls` has an integer of more than 64 bits, -9223372036854775809"),
            ("json.integer", 1, "`tool_calls` has an integer of more than 64 bits, 18446744073709551616"),
            ("json.integer", 2, "`content` has an integer of more than 64 bits, 100000000000000000000"),
        ],
    ),
    "too long in parts": (
        [
            turn("user", [{"type": "text", "text": "é" * 20}, {"type": "image"}, {"type": "text", "text": "b"}]),
            turn("assistant", "x" * 10),
        ],
        [("row.too_long", None, "31 characters, over 30")],
    ),
    "too long": ([turn("user", "é" * 26), A], [("row.too_long", None, "31 characters, over 30")]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_found(name: str) -> None:
    turns, expected = CASES[name]
    assert sorted(found(*turns), key=str) == sorted(expected, key=str)


def test_every_check_has_a_case_and_finds_alone_what_it_finds_among_all() -> None:
    shown = {code for _, expected in CASES.values() for code, _, _ in expected}
    elsewhere = {"pair.same", "msg.weight", "msg.ignored_weight", "media.file", "media.place"}  # have their own tests
    elsewhere |= {"tool.unknown", "tool.misfit", "tool.unanswered", "token.control", "row.no_answer"}
    elsewhere |= {"tool.unread", "tool.results", "row.completion", "msg.line_break", "msg.answer_first"}
    assert shown | elsewhere == set(checks.CHECKS)
    for turns, expected in CASES.values():
        for code in checks.CHECKS:
            assert found(*turns, codes=[code]) == sorted(
                (e for e in expected if e[0] == code), key=lambda e: (e[1] or -1, e[2])
            )


def test_same_answers() -> None:
    def pairs(*answers: tuple[list[Any], list[Any]]) -> pa.RecordBatch:
        sides = [encode_conversations(side) for side in zip(*answers, strict=True)]
        numbers = pa.array(range(len(answers)))
        return pa.RecordBatch.from_arrays([numbers, *sides], names=["row", "chosen", "rejected"])

    calls = [turn("assistant", None, tool_calls=[call({})])]
    batch = pairs(
        ([A], [A]), ([A], [turn("assistant", "b")]), ([U, A], [A]), (calls, calls), ([A], [{**A, "name": "n"}])
    )
    assert [(each.row, each.detail) for each in checks.run(batch, ["pair.same"])] == [
        (0, "the chosen and the rejected answer are the same"),
        (3, "the chosen and the rejected answer are the same"),
    ]


def test_a_turn_that_is_null() -> None:
    type = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    batch = pa.RecordBatch.from_arrays(
        [pa.array([0]), pa.array([[turn("user", "q"), None]], type)], names=["row", "messages"]
    )
    assert [(each.code, each.message, each.detail) for each in checks.run(batch)] == [
        ("msg.type", 1, "the turn is null")
    ]


def test_a_conversation_may_begin_in_the_prompt() -> None:
    prompt = [turn("system", "s"), U]
    assert found(A, column="completion", prompt=prompt) == []
    assert found(*prompt, column="prompt", completion=[A]) == []
    assert found(A, column="chosen", prompt=prompt, rejected=[A]) == []
    assert found(A, column="chosen", rejected=[A]) == [
        ("msg.no_user", None, "no user turn"),
        ("msg.order", 0, "`chosen`: the first role is `assistant`"),
    ]
    asked = [U, turn("assistant", None, tool_calls=[call({}, id="1")])]
    result = turn("tool", "r", tool_call_id="1")
    assert found(result, A, column="completion", prompt=asked) == []
    assert found(result, A, column="completion", prompt=prompt) == [
        ("msg.order", 0, "`completion`: `tool` follows `user`"),
        ("tool.orphan", 0, "`completion`: no call comes before the result"),
    ]
    again = ("msg.order", 0, "`completion`: `assistant` follows `assistant`")
    assert found(A, column="completion", prompt=[U, A]) == [again]
    (finding,) = checks.run(to_batch([{"prompt": [U, A], "completion": [A]}]), ["msg.order"])
    assert finding.hint == "--fail-on msg.order --on-error skip"


def test_findings_come_by_row_and_turn() -> None:
    rows = [{"messages": [U, A]}, {"messages": None}, {"messages": [turn("x", ""), turn("y", "z")]}, {"messages": []}]
    findings = checks.run(to_batch(rows), ["msg.role", "row.empty", "msg.empty"])
    assert [(f.row, f.message, f.code, f.column) for f in findings] == [
        (2, 0, "msg.role", "messages"),
        (2, 0, "msg.empty", "messages"),
        (2, 1, "msg.role", "messages"),
        (3, None, "row.empty", "messages"),
    ]


def test_errors_refuse_and_warnings_do_when_named_or_strict() -> None:
    batch = to_batch([{"messages": [turn("robot", ""), U]}])
    assert [each.code for each in checks.run(batch)] == ["msg.role", "msg.empty", "msg.ends_user"]
    assert [each.code for each in checks.run(batch, checks.refusing())] == ["msg.role"]
    assert [each.code for each in checks.run(batch, checks.refusing(named=["msg.empty"]))] == ["msg.role", "msg.empty"]
    assert checks.run(batch, checks.refusing(strict=True)) == checks.run(batch)


MERGE = "--transform merge='\"\\n\\n\"'"


@pytest.mark.parametrize(
    ("turns", "hint"),
    [
        ([U, U, A], MERGE),
        ([{**U, "ts": 1}, {**U, "ts": 1}, A], MERGE),
        ([{**U, "ts": 1}, {**U, "ts": 2}, A],
         f"{MERGE} --drop messages.ts, since turns that differ in a key are not merged"),
        ([A, U, A], "--transform leading_assistant=drop"),
        ([U, A, turn("system", "s"), U, A], "--transform later_system=fold"),
        ([turn("system", "s"), A, U, A], "--transform leading_assistant=drop"),
        ([turn("system", "s"), A], "--fail-on msg.order --on-error skip"),
        ([U, A, turn("system", "s")], "--fail-on msg.order --on-error skip"),
        ([U, turn("tool", "3"), A], "--fail-on msg.order --on-error skip"),
    ],
)  # fmt: skip
def test_what_helps_with_a_role_out_of_order(turns: list[dict[str, Any]], hint: str) -> None:
    found = checks.run(to_batch([{"messages": turns}]), ["msg.order"], LIMITS)
    assert [finding.hint for finding in found] == [hint]


def test_the_transform_of_a_hint_helps() -> None:
    said = {"role": "assistant", "content": "x"}
    thinking, asking = {**said, "reasoning_content": "r"}, {**said, "tool_calls": [call({})]}
    turns = [turn(role, "x") for role in ROLES] + [turn("user", None), thinking, asking]
    rows = [{"messages": list(some)} for size in (1, 2, 3) for some in product(turns, repeat=size)]
    batch, codes = to_batch(rows), ["msg.order", "msg.ends_user"]
    found = checks.run(batch, codes)
    hints = {finding.hint or checks.CHECKS[finding.code].hint for finding in found}
    seen = set()
    for flag in hints:
        name, _, value = flag.removeprefix("--transform ").partition("=")
        if not flag.startswith("--transform "):
            seen.add(flag)
            continue
        changed, _ = transforms.apply(batch, {name: "\n\n" if name == "merge" else value})
        left = Counter((each.code, each.row, each.detail) for each in checks.run(changed, codes))
        helped = [each for each in found if (each.hint or checks.CHECKS[each.code].hint) == flag]
        before = Counter((each.code, each.row, each.detail) for each in found)
        assert helped and all(
            left[each.code, each.row, each.detail] < before[each.code, each.row, each.detail] for each in helped
        ), flag
        seen.add(name)
    assert seen == {
        "merge", "leading_assistant", "later_system", "trailing_user",
        "--fail-on msg.order --on-error skip", "--fail-on msg.ends_user --on-error skip",
    }  # fmt: skip


def test_empty_turns_are_dropped_only_where_an_answer_is_left() -> None:
    drop, skip = "", "--fail-on msg.empty --on-error skip"
    nothing = turn("assistant", "")
    rows = [
        ({"messages": [U, nothing, U, A]}, [("the content is empty", drop)]),
        ({"messages": [U, A, turn("user", "")]}, [("the content is empty", drop)]),
        ({"messages": [U, nothing]}, [("the content is empty", skip)]),
        ({"prompt": [U], "chosen": [A], "rejected": [nothing]}, [("`rejected`: the content is empty", skip)]),
        ({"prompt": [U], "completion": [nothing, A]}, [("`completion`: the content is empty", drop)]),
        ({"prompt": [turn("user", "")], "completion": [A]}, [("`prompt`: the content is empty", skip)]),
        ({"prompt": [turn("user", "")], "completion": [nothing]},
         [("all content is empty or white space", ""), ("`prompt`: the content is empty", skip),
          ("`completion`: the content is empty", skip)]),
        ({"prompt": [U], "completion": []}, [("`completion` has no answer", "")]),
        ({"chosen": [U, A], "rejected": [U]}, [("`rejected` has no answer", "")]),
        ({"chosen": [U, A], "rejected": [turn("robot", "x")]}, []),  # another error
    ]  # fmt: skip
    codes = ["msg.empty", "row.blank", "row.no_answer", "row.empty"]
    for row, expected in rows:
        assert [(each.detail, each.hint) for each in checks.run(to_batch([row]), codes)] == expected


def test_a_finding_as_the_error_that_stops_a_run() -> None:
    bad, worse = [U, turn("robot", "x")], [U, turn("robot", "x"), turn("robot", "")]
    batch = to_batch([{"messages": turns} for turns in (bad, [U], worse, bad)])
    (error,) = checks.to_errors(checks.run(batch, checks.refusing()))
    assert error.rows == (0, 2, 3)
    assert isinstance(error, CheckError)
    assert (error.message, error.hint, error.at, error.code) == (
        "role `robot` is not known", "--role NAME=ROLE", Location(row=0, message=1), "msg.role",
    )  # fmt: skip


def test_an_unknown_code_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        checks.run(to_batch([{"messages": [U]}]), ["msg.rol"])
    assert (str(caught.value), caught.value.hint) == ("unknown check `msg.rol`", "did you mean `msg.role`?")


def naive(code: str, name: str, row: Any) -> list[int | None]:
    """Where a loop would find it."""
    turns = row.get(name) or []
    roles = [each["role"] for each in turns]
    says = [bool(each.get("tool_calls") or each.get("reasoning_content")) for each in turns]
    content = [each["content"] for each in turns]
    places = range(len(turns))
    is_head = name != "completion" and (name in ("messages", "prompt") or row.get("prompt") is None)
    if code == "msg.role":
        return [i for i in places if roles[i] not in ROLES]
    if code == "msg.null":
        return [i for i in places if content[i] is None and not says[i]]
    if code == "msg.empty":
        bridges = [
            turns[i].get("weight") == 0 and roles[i] == "assistant" and i > 0 and roles[i - 1] == "tool" for i in places
        ]  # answers that are not trained, such as --fit adds after a tool result
        return [i for i in places if content[i] in ("", []) and not says[i] and roles[i] != "tool" and not bridges[i]]
    if code == "msg.blank":
        return [
            i
            for i in places
            if isinstance(content[i], str) and content[i].isspace() and not says[i] and roles[i] != "tool"
        ]
    if code == "msg.no_user":
        return [None] if turns and is_head and "user" not in roles else []
    if code == "msg.ends_user":
        return [len(turns) - 1] if turns and name != "prompt" and roles[-1] == "user" else []
    if code in ("row.empty", "row.no_answer"):
        is_answer = name in ("completion", "chosen", "rejected")
        unanswered = is_answer and is_head and row[name] is not None and {*roles} <= {*ROLES} - {"assistant"}
        return [None] if (row[name] == [] or unanswered) and is_answer == (code == "row.no_answer") else []
    if code == "row.blank":
        every = [each for column in row.values() if isinstance(column, list) for each in column]
        silent = [
            not (each.get("tool_calls") or each.get("reasoning_content")) and not str(each["content"] or "").strip()
            for each in every
        ]
        return [None] if every and all(silent) and name == "" else []
    raise AssertionError(code)


@given(rows=ROWS)
def test_kernels_find_what_a_loop_would(rows: list[Any]) -> None:
    codes = ["msg.role", "msg.null", "msg.empty", "msg.blank", "msg.no_user", "msg.ends_user",
             "row.empty", "row.no_answer", "row.blank"]  # fmt: skip
    findings = checks.run(to_batch(rows), codes)
    made = {(f.code, f.row, f.message, "" if f.code == "row.blank" else f.column) for f in findings}
    assert len(made) == len(findings)
    assert made == {
        (code, place, message, name)
        for code in codes
        for place, row in enumerate(rows)
        for name in (row if code != "row.blank" else [""])
        for message in naive(code, name, row)
    }


@given(rows=ROWS)
def test_slices_of_a_batch_are_a_batch_of_slices(rows: list[Any]) -> None:
    batch = to_batch(rows)
    parts = [f._replace(row=f.row + i) for i in range(len(rows)) for f in checks.run(batch.slice(i, 1), limits=LIMITS)]
    assert parts == checks.run(batch, limits=LIMITS)


@needs_shared
def test_the_invalid_row_of_the_toy_file_is_reported() -> None:
    assert SHARED is not None
    lines = (SHARED / "data" / "messages_toy_invalid.jsonl").read_text(encoding="utf-8").splitlines()
    findings = checks.run(to_batch([json.loads(line) for line in lines]))
    assert [(f.code, f.row, f.message) for f in findings if f.code == "msg.no_user"] == [("msg.no_user", 3, None)]


def test_what_checks_make_of_a_batch_is_freed_without_the_garbage_collector() -> None:
    """Nothing refers to itself: the memory of a batch would be in use until the collector runs."""
    batch = to_batch([{"messages": [U, A]}] * 3)
    checks.run(batch)
    gc.collect()
    checks.run(batch)
    assert gc.collect() == 0
