"""Shapes of rows that people report: each is read whole, without flags.

A case is the rows of a dataset and the conversations they become; each is read from JSON and, where Arrow can hold the
rows, from native Arrow types too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt.dialects import DIALECTS, Columns
from chatfmt.errors import DialectError, NoDialect

from ..conftest import read_rows, run_cli, succeed, write_rows
from .batches import convert, to_batch, to_native, without_nulls

Row = dict[str, Any]


def user(content: Any) -> Row:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> Row:
    return {"role": "assistant", "content": content, **more}


def system(content: Any) -> Row:
    return {"role": "system", "content": content}


def call(name: str, arguments: Any, **more: Any) -> Row:
    return {**more, "type": "function", "function": {"name": name, "arguments": arguments}}


def spec(name: str, **more: Any) -> Row:
    return {"type": "function", "function": {"name": name, **more}}


def talk(*turns: Any, **columns: Any) -> Row:
    return {"messages": list(turns), **columns}


Q, A = user("q"), assistant("a")
TALK = talk(Q, A)
WITH_SYSTEM = talk(system("s"), Q, A)
PAST = [user("hi"), assistant("hello")]
CASES: dict[str, tuple[list[Row], list[Row]]] = {
    "system blocks": ([{"system": [{"type": "text", "text": "s"}], **TALK}], [WITH_SYSTEM]),
    "system blocks without a type": ([{"system": [{"text": "s"}], **TALK}], [WITH_SYSTEM]),
    "a system block whose type is no text": ([{"system": [{"type": ["t"], "text": "s"}], **TALK}], [WITH_SYSTEM]),
    "several system blocks": (
        [{"system": [{"text": "s"}, {"text": "t"}], **TALK}],
        [talk(system([{"text": "s", "type": "text"}, {"text": "t", "type": "text"}]), Q, A)],
    ),
    "a system object": ([{"system": {"role": "system", "content": "s"}, **TALK}], [WITH_SYSTEM]),
    "a system in some rows as text": (
        [{"system": "s", **TALK}, {"system": [{"text": "s"}], **TALK}],
        [WITH_SYSTEM, WITH_SYSTEM],
    ),
    "a system instruction": ([{"system_instruction": "s", **TALK}], [WITH_SYSTEM]),
    "a developer's text": ([{"developer": "Be brief.", **TALK}], [talk(system("Be brief."), Q, A)]),
    "a developer of games": ([{"developer": "Valve", **TALK}], [TALK]),
    "an instruction that some turns repeat": (
        [{"instruction": "s", **TALK}, {"instruction": "q", **TALK}],
        [WITH_SYSTEM, TALK],
    ),
    "an instruction beside turns": ([{"instruction": "s", **TALK}], [WITH_SYSTEM]),
    "an instruction that a turn repeats": ([{"instruction": "q", **TALK}], [TALK]),
    "a developer's text that the system turn repeats": (
        [{"developer": "s", "messages": [system("x s"), Q, A]}],
        [talk(system("x s"), Q, A)],
    ),
    "pairs with a system text": (
        [{"conversation": [{"system": "s", "input": "q", "output": "a"}, {"input": "r", "output": "b"}]}],
        [talk(system("s"), Q, A, user("r"), assistant("b"))],
    ),
    "blocks without a type": ([talk(user([{"text": "q"}]), assistant([{"text": "a"}]))], [TALK]),
    "thoughts and calls in channels": (
        [
            talk(
                Q,
                {"role": "assistant", "channel": "analysis", "content": "t"},
                {"role": "assistant", "channel": "analysis", "content": [{"type": "text", "text": "u"}]},
                {"role": "assistant", "channel": "commentary", "recipient": "functions.f", "content": '{"a": 1}'},
                {"role": "tool", "channel": "commentary", "content": "r"},
                {"role": "assistant", "channel": "analysis", "content": "v", "train": False},
                {"role": "assistant", "channel": "final", "content": "a"},
                {"role": "user", "channel": "analysis", "content": "q"},
                {"role": "assistant", "channel": "analysis", "content": "w"},
            )
        ],
        [
            talk(
                Q,
                {
                    "role": "assistant",
                    "channel": "commentary",
                    "recipient": "functions.f",
                    "reasoning_content": "t\n\nu",
                    "tool_calls": [call("f", '{"a": 1}')],
                },
                {"role": "tool", "channel": "commentary", "content": "r"},
                {"role": "assistant", "channel": "analysis", "reasoning_content": "v", "train": False},
                {"role": "assistant", "channel": "final", "content": "a"},
                {"role": "user", "channel": "analysis", "content": "q"},
                {"role": "assistant", "channel": "analysis", "reasoning_content": "w"},
            )
        ],
    ),
    "parts of OpenTelemetry": (
        [
            talk(
                {"role": "user", "parts": [{"type": "text", "content": "q"}]},
                {
                    "role": "assistant",
                    "parts": [
                        {"type": "reasoning", "content": "t"},
                        {"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}},
                    ],
                },
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "r"}]},
                {"role": "assistant", "parts": [{"type": "text", "content": "a"}]},
            ),
            talk(
                {"role": "user", "parts": [{"type": "text", "content": "q"}, {"type": "image", "image": "i"}]},
                {"role": "assistant", "parts": [{"type": "text", "content": "a"}]},
            ),
        ],
        [
            talk(
                Q,
                {"role": "assistant", "reasoning_content": "t", "tool_calls": [call("f", {"a": 1}, id="c")]},
                {"role": "tool", "tool_call_id": "c", "content": "r"},
                A,
            ),
            talk(user([{"type": "text", "text": "q"}, {"type": "image", "image": "i"}]), A),
        ],
    ),
    "messages of OpenTelemetry in two columns": (
        [
            {
                "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "q"}]}],
                "gen_ai.output.messages": [{"role": "assistant", "parts": [{"type": "text", "content": "a"}]}],
            }
        ],
        [{"prompt": [Q], "completion": [A]}],
    ),
    "an input and an output of turns": (
        [{"input": [Q], "output": [A]}, {"input": json.dumps([Q]), "output": json.dumps([A])}],
        [{"prompt": [Q], "completion": [A]}] * 2,
    ),
    "an input and an output beside turns": (
        [{**TALK, "input": "[1]", "output": "[2]"}, {**TALK, "input": [Q], "output": [A]}],
        [TALK] * 2,
    ),
    "a thread as JSON text, whose messages have no role": (
        [{"prompt": '{"text": "q", "replies": []}', "completion": "a"}],
        [talk(user('{"text": "q", "replies": []}'), A)],
    ),
    "contents of Gemini under another name": (
        [
            talk(
                {"role": "user", "parts": [{"text": "q"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
            )
        ],
        [talk(Q, {"role": "assistant", "tool_calls": [call("f", {})]})],
    ),
    "steps after turns": (
        [{"prompt": [Q], "completions": ["a", "b"], "labels": [True, False]}],
        [{"prompt": [Q], "completions": ["a", "b"], "labels": [True, False]}],
    ),
    "rated answers after turns": (
        [{"prompt": [Q], "completions": ["a", "b"], "ratings": [1, 0]}],
        [{"prompt": [Q], "chosen": [A], "rejected": [assistant("b")]}],
    ),
    "a tree as JSON text": (
        [
            {
                "message_tree_id": "1",
                "prompt": json.dumps(
                    {"role": "prompter", "text": "q", "replies": [{"role": "assistant", "text": "a", "replies": []}]}
                ),
            }
        ],
        [TALK],
    ),
    "turns as JSON text beside a rejected answer": (
        [{"messages": json.dumps([Q, A]), "rejected_response": "b"}],
        [{"prompt": [Q], "chosen": [A], "rejected": [assistant("b")]}],
    ),
    "parts and system blocks as Python literals": (
        [{"system": str([{"type": "text", "text": "s"}]), **talk(user(str([{"type": "text", "text": "q"}])), A)}],
        [talk(system("s"), user([{"type": "text", "text": "q"}]), A)],
    ),
    "texts as parts": (
        [talk(user(["q", " r"]), assistant(["a"]))],
        [talk(user([{"text": "q", "type": "text"}, {"text": " r", "type": "text"}]), A)],
    ),
    "parts as JSON text": (
        [talk(user(json.dumps([{"type": "text", "text": "q"}])), A)],
        [talk(user([{"type": "text", "text": "q"}]), A)],
    ),
    "a list of JSON texts": ([talk(json.dumps(Q), json.dumps(A))], [TALK]),
    "a preference as lists of JSON texts": (
        [{"prompt": [json.dumps(Q)], "chosen": [json.dumps(A)], "rejected": [json.dumps(assistant("b"))]}],
        [{"prompt": [Q], "chosen": [A], "rejected": [assistant("b")]}],
    ),
    "a preference as JSON texts, beside one as texts": (
        [
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            {"prompt": "q", "chosen": json.dumps(A), "rejected": json.dumps([assistant("b")])},
        ],
        [{"prompt": [Q], "chosen": [A], "rejected": [assistant("b")]}] * 2,
    ),
    "a text and the turns that answer it": ([{"prompt": "q", "completion": [A]}], [{"prompt": [Q], "completion": [A]}]),
    "a question and a turn as JSON": (
        [{"system": "s", "question": "q", "answer": json.dumps(A)}],
        [{"prompt": [system("s"), Q], "completion": [A]}],
    ),
    "texts that begin with their roles": (
        [
            talk("Human: q", "AI:a"),
            talk("\n\nHuman: q", "\n\nAI: a"),
            talk("<user> q", "[Assistant]: a"),
            talk("### Human: q", "**AI:** a"),
            {"turns": ["user: q", "assistant: a"]},
        ],
        [TALK] * 5,
    ),
    "a history of texts that begin with their roles": (
        [{"history": ["user: hi", "assistant: hello"], "question": "q", "answer": "a"}],
        [talk(*PAST, Q, A)],
    ),
    "scored answers as JSON text": (
        [{"prompt": "q", "completions": json.dumps([{"response": "b", "score": 1}, {"response": "a", "score": 2}])}],
        [{"prompt": [Q], "chosen": [A], "rejected": [assistant("b")]}],
    ),
    "answers and their scores as JSON text": (
        [{"prompt": "q", "responses": '["b", "a"]', "scores": "[1, 2]"}],
        [{"prompt": [Q], "chosen": [A], "rejected": [assistant("b")]}],
    ),
    "parallel lists": ([{"messages": {"role": ["user", "assistant"], "content": ["q", "a"]}}], [TALK]),
    "turns of LangChain": (
        [
            talk(
                {"type": "system", "data": {"content": "s"}},
                {"type": "human", "data": {"content": "q"}},
                {"type": "ai", "data": {"content": "a"}},
            )
        ],
        [WITH_SYSTEM],
    ),
    "logged turns": (
        [talk({"uuid": "1", "message": Q}, {"uuid": "2", "message": A})],
        [talk({"uuid": "1", **Q}, {"uuid": "2", **A})],
    ),
    "two spellings in one conversation": (
        [
            {"conversations": [{"from": "human", "value": "q"}, A]},
            {"conversations": [Q, {"from": "gpt", "value": "a"}]},
        ],
        [TALK, TALK],
    ),
    "a system turn with a key of its own": (
        [
            {
                "trajectory": [
                    {"role": "system", "system_prompt": "s", "text": None},
                    {"role": "user", "system_prompt": None, "text": "q"},
                    {"role": "ai", "system_prompt": None, "text": "a"},
                ]
            }
        ],
        [WITH_SYSTEM],
    ),
    "a history of turns": ([{"chat_history": PAST, "question": "q", "answer": "a"}], [talk(*PAST, Q, A)]),
    "a history of ShareGPT turns": (
        [
            {
                "history": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}],
                "query": "q",
                "response": "a",
            }
        ],
        [talk(*PAST, Q, A)],
    ),
    "a history as text, empty in some rows": (
        [
            {"history": "", "question": "q", "answer": "a"},
            {"history": json.dumps(PAST), "question": "q", "answer": "a"},
        ],
        [TALK, talk(*PAST, Q, A)],
    ),
    "answers beside a reward": (
        [{"prompt": "q", "answers": ["b", "a"], "reward": [0, 1]}],
        [{"prompt": [Q], "chosen": [A], "rejected": [assistant("b")]}],
    ),
    "labels in short words": (
        [{"prompt": "q", "completion": "a", "label": word} for word in ("pos", "neg", "accept", "reject")],
        [{"prompt": [Q], "completion": [A], "label": good} for good in (True, False) * 2],
    ),
    "a history of texts": ([{"history": ["hi", "hello"], "input": "q", "output": "a"}], [talk(*PAST, Q, A)]),
    "a context of turns": ([{"context": PAST, "query": "q", "response": "a"}], [talk(*PAST, Q, A)]),
    "a history and its answer": ([{"chat_history": [*PAST, Q], "response": "a"}], [talk(*PAST, Q, A)]),
    "a history and a question": ([{"chat_history": PAST, "prompt": "q"}], [{"prompt": [*PAST, Q]}]),
    "a history and a message": ([{"chat_history": PAST, "message": "q"}], [{"prompt": [*PAST, Q]}]),
    "a history, a message and a response (Cohere)": (
        [{"chat_history": PAST, "message": "q", "response": "a"}],
        [talk(*PAST, Q, A)],
    ),
    "a history with types of LangChain": (
        [{"chat_history": [{"type": "human", "content": "hi"}, {"type": "ai", "content": "hello"}], "input": "q"}],
        [{"prompt": [*PAST, Q]}],
    ),
    "steps beside their correctness": (
        [{"problem": "q", "steps": ["s", "t"], "correctness": [1, 0]}],
        [{"prompt": [Q], "completions": ["s", "t"], "labels": [True, False]}],
    ),
    "choices with keys": (
        [{"question": "q", "options": [{"key": "A", "value": "x"}, {"key": "B", "value": "y"}], "answer": "y"}],
        [talk(user("q\n\nA. x\nB. y"), assistant("B"))],
    ),
    "a system text of blocks": ([{"system": json.dumps([{"type": "text", "text": "s"}]), **TALK}], [WITH_SYSTEM]),
    "a question beside metadata": ([{"question": "q", "topic": "t", "id": "1"}], [{"prompt": [Q]}]),
    "reasoning in a column": (
        [{"Question": "q", "Complex_CoT": "t", "Response": "a"}],
        [talk(Q, assistant("a", reasoning_content="t"))],
    ),
    "reasoning of an Alpaca row": (
        [{"instruction": "q", "input": "", "output": "a", "cot": "t"}],
        [talk(Q, assistant("a", reasoning_content="t"))],
    ),
    "reasoning beside turns": (
        [{**TALK, "reasoning": "t"}, talk(Q, A, user("r"), assistant("b"), reasoning="t")],
        [talk(Q, assistant("a", reasoning_content="t")), talk(Q, A, user("r"), assistant("b", reasoning_content="t"))],
    ),
    "a switch called reasoning": ([{**TALK, "reasoning": "on"}], [TALK]),
    "reasoning that the turn has": (
        [talk(Q, assistant("<think>t</think>a"), reasoning="t")],
        [talk(Q, assistant("<think>t</think>a"))],
    ),
    "a thought among the parts of an answer": (
        [talk(Q, assistant([{"type": "reasoning", "text": "t"}, {"type": "text", "text": "a"}]))],
        [talk(Q, {"role": "assistant", "reasoning_content": "t", "content": "a"})],
    ),
    "reasoning as blocks": (
        [talk(Q, assistant("a", reasoning_content=[{"type": "text", "text": "t"}]))],
        [talk(Q, assistant("a", reasoning_content="t"))],
    ),
    "tools by name": (
        [{"tools": {"f": {"description": "d", "parameters": {}}}, **TALK}],
        [{**TALK, "tools": [spec("f", description="d", parameters={})]}],
    ),
    "tools by description": (
        [{"tools": {"f": "Looks up."}, **TALK}],
        [{**TALK, "tools": [spec("f", description="Looks up.")]}],
    ),
    "Gemini's tools": (
        [{"tools": [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}], **TALK}],
        [{**TALK, "tools": [spec("f"), spec("g")]}],
    ),
    "parallel calls of ms-swift": (
        [
            talk(
                Q,
                *({"role": "tool_call", "content": json.dumps({"name": name, "arguments": {}})} for name in "fg"),
                *({"role": "tool_response", "content": text} for text in "xy"),
                assistant("z"),
            )
        ],
        [
            talk(
                Q,
                {"role": "assistant", "tool_calls": [call("f", {}), call("g", {})]},
                *({"role": "tool", "content": text} for text in "xy"),
                assistant("z"),
            )
        ],
    ),
    "an untyped text beside an image": (
        [talk({"role": "user", "content": [{"text": "q"}, {"type": "image", "image": "a.png"}]}, assistant("a"))],
        [
            talk(
                {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "image", "image": "a.png"}]},
                assistant("a"),
            )
        ],
    ),
    "available tools": ([{"available_tools": [{"name": "f"}], **TALK}], [{**TALK, "tools": [spec("f")]}]),
    "a tool schema": ([{"tool_schema": '[{"name": "f"}]', **TALK}], [{**TALK, "tools": [spec("f")]}]),
    "null as JSON text beside tools": (
        [{"tools": '[{"name": "f"}]', **TALK}, {"tools": "null", **TALK}],
        [{**TALK, "tools": [spec("f")]}, TALK],
    ),
    "Bedrock's tools": (
        [{"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}], **TALK}],
        [{**TALK, "tools": [spec("f", parameters={"type": "object"})]}],
    ),
    "tools with JSON text in place of objects": (
        [
            {"tools": [given], **TALK}
            for given in (
                {"name": "f", "parameters": '{"type": "object"}'},
                {"name": "f", "input_schema": '{"type": "object"}'},
                {"type": "function", "function": '{"name": "f", "parameters": {"type": "object"}}'},
                {"type": "function", "function": {"name": "f", "parameters": '{"type": "object"}'}},
            )
        ],
        [{**TALK, "tools": [spec("f", parameters={"type": "object"})]}] * 4,
    ),
    "choices that begin with their labels": (
        [
            {"question": "q", "options": ["A. x", "B. y"], "answer": "b"},
            {"question": "q", "options": ["A) x", "B) y"], "answer": "B) y"},
            {"question": "q", "options": ["A. Einstein", "Bohr"], "answer": "A"},
        ],
        [
            talk({"role": "user", "content": "q\n\nA. x\nB. y"}, assistant("B")),
            talk({"role": "user", "content": "q\n\nA) x\nB) y"}, assistant("B")),
            talk({"role": "user", "content": "q\n\nA. A. Einstein\nB. Bohr"}, assistant("A")),
        ],
    ),
    "calls with other keys": (
        [
            talk(Q, assistant("", tool_calls=[given]))
            for given in (
                {"name": "f", "arguments": {"a": 1}},
                {"name": "f", "parameters": {"a": 1}},
                {"function": "f", "args": {"a": 1}},
                {"tool_name": "f", "input": {"a": 1}},
                {"type": "function", "function": {"name": "f", "parameters": {"a": 1}}},
            )
        ],
        [talk(Q, assistant("", tool_calls=[call("f", {"a": 1})]))] * 5,
    ),
    "null beside calls with other keys": (
        [talk(Q, assistant("", tool_calls=[{"name": "f", "arguments": {}}])), talk(Q, assistant("a", tool_calls=None))],
        [talk(Q, assistant("", tool_calls=[call("f", {})])), talk(Q, A)],
    ),
    "a later call with other keys": (
        [talk(Q, assistant("", tool_calls=[call("f", {}), {"name": "g", "arguments": {}}]))],
        [talk(Q, assistant("", tool_calls=[call("f", {}), call("g", {})]))],
    ),
    "a call with an id of another name": (
        [talk(Q, assistant("", tool_calls=[{"call_id": "1", "name": "f", "args": {}, "index": 0}]))],
        [talk(Q, assistant("", tool_calls=[call("f", {}, id="1") | {"index": 0}]))],
    ),
    "a call of a custom tool": (
        [talk(Q, assistant("", tool_calls=[{"id": "1", "type": "custom", "custom": {"name": "f", "input": "x"}}]))],
        [talk(Q, assistant("", tool_calls=[call("f", "x", id="1")]))],
    ),
    "calls as JSON text": (
        [talk(Q, assistant("", tool_calls=json.dumps([call("f", "{}", id="1")])))],
        [talk(Q, assistant("", tool_calls=[call("f", "{}", id="1")]))],
    ),
    "calls as JSON text in some turns": (
        [
            talk(Q, assistant("", tool_calls=json.dumps({"name": "f", "arguments": {}}))),
            talk(Q, assistant("", tool_calls=[call("f", {})])),
        ],
        [talk(Q, assistant("", tool_calls=[call("f", {})]))] * 2,
    ),
    "lists of both sides": (
        [{"human": ["q", "r"], "assistant": ["a", "b"]}, {"human": ["q", "r"], "assistant": ["a"]}],
        [talk(Q, A, user("r"), assistant("b")), talk(Q, A, user("r"))],
    ),
    "user turns as objects": (
        [{"question_id": 1, "cluster": "C and D", "turns": [{"content": "q"}]}],
        [{"prompt": [Q]}],
    ),
    "labels of steps as signs and numbers": (
        [
            {"prompt": "q", "completions": ["s", "t"], "labels": labels}
            for labels in (["+", "-"], [1, 0], ["1", "-1"], [1, -1])
        ],
        [{"prompt": [Q], "completions": ["s", "t"], "labels": [True, False]}] * 4,
    ),
    "labels of steps as words": (
        [{"question": "q", "steps": ["s", "t", "u"], "step_labels": ["correct", "neutral", "bad"]}],
        [{"prompt": [Q], "completions": ["s", "t", "u"], "labels": [True, False, False]}],
    ),
    "a ranked list with scores": (
        [{"prompt": "q", "responses": ["b", "a", "c"], "scores": [0.1, 0.9, 0.5]}],
        [{"prompt": [Q], "chosen": [A], "rejected": [assistant("b")]}],
    ),
    "a ranked list with ranks": (
        [{"question": "q", "candidates": ["b", "a"], "ranks": [2, 1]}],
        [{"prompt": [Q], "chosen": [A], "rejected": [assistant("b")]}],
    ),
    "a label that is a category": (
        [{"question": "q", "answer": "a", "label": label} for label in (0, 1, 2)],
        [TALK] * 3,
    ),
    "Hermes, its tools once": (
        [
            talk(
                system('Be brief.\n<tools>\n[{"name": "f"}]\n</tools>'),
                Q,
                assistant('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'),
                user("<tool_response>\nr\n</tool_response>"),
            ),
            talk(system('<tools>[{"name": "f"}]</tools>'), Q, A),
        ],
        [
            talk(
                system("Be brief.\n"),
                Q,
                {"role": "assistant", "tool_calls": [call("f", {})]},
                {"role": "tool", "content": "r"},
                tools=[spec("f")],
            ),
            {**TALK, "tools": [spec("f")]},
        ],
    ),
    "Hermes with its tools in a column": (
        [{"system": 'Be brief. <tools>[{"name": "f"}]</tools>', "conversations": [Q, A]}],
        [talk(system("Be brief. "), Q, A, tools=[spec("f")])],
    ),
    "ToolACE in a column, and a row without calls": (
        [
            {"system": 'Use [{"name": "f"}].', "conversations": [Q, assistant("[f(a=1)]")]},
            {"system": 'Use [{"name": "f"}].', "conversations": [Q, A]},
        ],
        [
            talk(system("Use ."), Q, {"role": "assistant", "tool_calls": [call("f", {"a": 1})]}, tools=[spec("f")]),
            talk(system("Use ."), Q, A, tools=[spec("f")]),
        ],
    ),
    "ToolACE in a system turn": (
        [talk(system('Use [{"name": "f"}].'), Q, assistant("[f(a=1)]"))],
        [talk(system("Use ."), Q, {"role": "assistant", "tool_calls": [call("f", {"a": 1})]}, tools=[spec("f")])],
    ),
    "a response to a text (OpenAI Responses)": (
        [
            {
                "input": "q",
                "output": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}]},
                    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
                ],
            }
        ],
        [talk(Q, {"role": "assistant", "reasoning_content": "t", "content": "a"})],
    ),
    "Glaive as one text (its first version)": (
        [{"sample": 'SYSTEM: You have functions.\n{"name": "f"}\n\n\nUSER: q\n\n\nASSISTANT: a <|endoftext|>\n\n\n'}],
        [{**talk(system("You have functions."), Q, A), "tools": [{"type": "function", "function": {"name": "f"}}]}],
    ),
    "Glaive with a text of its own": (
        [
            {
                "system": "SYSTEM: Rhyme. You have access to the following functions. Use them if required -\n"
                '{"name": "f"}',
                "chat": "USER: q\n\n\nASSISTANT: a <|endoftext|>\n\n\n",
            }
        ],
        [talk(system("Rhyme."), Q, A, tools=[spec("f")])],
    ),
    "choices in columns of their own": (
        [
            {"question": "q", "opa": "1", "opb": "2", "opc": "3", "cop": 2, "exp": "it is so", "id": "7"},
            {"question": "q", "opa": "1", "opb": "2", "opc": None, "cop": 0, "exp": None, "id": "8"},
        ],
        [talk(user("q\n\nA. 1\nB. 2\nC. 3"), assistant("C")), talk(user("q\n\nA. 1\nB. 2"), assistant("A"))],
    ),
    "numbered choices": (
        [{"sentence": "q _", "option1": "x", "option2": "y", "answer": "2"}],
        [talk(user("q _\n\n1. x\n2. y"), assistant("2"))],
    ),
    "a passage before the question": (
        [{"article": "p", "question": "q", "options": ["x", "y"], "answer": "B"}],
        [talk(user("p\n\nq\n\nA. x\nB. y"), assistant("B"))],
    ),
    "a history before a preference": (
        [{"history": [["hi", "hello"]], "prompt": "q", "chosen": "a", "rejected": "b"}],
        [{"prompt": [*PAST, Q], "chosen": [A], "rejected": [assistant("b")]}],
    ),
    "labels as numbers": (
        [{"prompt": "q", "completion": "a", "label": 1}, {"prompt": "q", "completion": "b", "label": 0}],
        [
            {"prompt": [Q], "completion": [A], "label": True},
            {"prompt": [Q], "completion": [assistant("b")], "label": False},
        ],
    ),
    "labels as words": (
        [{**TALK, "label": label} for label in ("True", "FALSE", "+", "-", "good", "bad")],
        [{**TALK, "label": label} for label in (True, False) * 3],
    ),
    "ms-swift's preference with calls": (
        [
            talk(
                Q,
                {"role": "tool_call", "content": '{"name": "f", "arguments": {}}'},
                {"role": "tool_response", "content": "r"},
                A,
                rejected_response="b",
            )
        ],
        [
            {
                "prompt": [Q, {"role": "assistant", "tool_calls": [call("f", {})]}, {"role": "tool", "content": "r"}],
                "chosen": [A],
                "rejected": [assistant("b")],
            }
        ],
    ),
}


CASES |= {
    "reasoning in a list of texts": (
        [talk(Q, assistant("a", reasoning_content=["Hm.", "Yes."]))],
        [talk(Q, assistant("a", reasoning_content="Hm.\n\nYes."))],
    ),
    "a function as JSON text": (
        [talk(Q, assistant("", tool_calls=[{"id": "c", "function": '{"name": "f", "arguments": {"a": 1}}'}]))],
        [talk(Q, assistant("", tool_calls=[{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}]))],
    ),
    **{
        f"no calls: {none}": (
            [talk(Q, assistant("a", tool_calls=[call("f", {})])), talk(Q, assistant("a", tool_calls=none))],
            [talk(Q, assistant("a", tool_calls=[call("f", {})])), talk(Q, assistant("a", tool_calls=[]))],
        )
        for none in ("", "null", "{}", [None], [{}])
    },
}


@pytest.mark.parametrize("name", CASES)
def test_a_shape_is_read(name: str) -> None:
    rows, expected = CASES[name]
    assert without_nulls(convert(rows)[0]) == expected


@pytest.mark.parametrize("name", CASES)
def test_a_shape_is_read_from_arrow_types(name: str) -> None:
    rows, expected = CASES[name]
    try:
        batch = to_native(rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pytest.skip("Arrow cannot hold these rows")
    assert without_empty(convert(batch)[0]) == without_empty(expected)


def without_empty(value: Any) -> Any:
    """Return a value without keys that hold null or an empty object, which Arrow cannot tell from nothing."""
    if isinstance(value, dict):
        return {key: without_empty(item) for key, item in value.items() if item not in (None, {})}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


def test_binary_columns_that_hold_utf8_are_text() -> None:
    batch = to_native([{"question": "q", "answer": "é".encode()}])
    assert convert(batch)[0] == [talk(Q, assistant("é"))]
    turns = to_native([talk({"role": b"user", "content": b"q"}, {"role": b"assistant", "content": b"a"})])
    assert convert(turns)[0] == [TALK]
    with pytest.raises(NoDialect):
        convert(to_native([{"question": "q", "answer": b"\xff"}]))


def test_bytes_that_are_not_utf8_are_bad_rows_of_their_own(tmp_path: Path) -> None:
    turn = pa.struct([("role", pa.string()), ("content", pa.binary())])
    talks = [[user(b"q"), assistant(answer)] for answer in (b"a", b"\xff")]
    for name, table, message in (
        ("flat", {"question": ["q", "q"], "answer": [b"a", b"\xff"]}, "column `answer` holds bytes, not text"),
        ("turns", {"messages": pa.array(talks, pa.list_(turn))}, "the key `content` holds bytes that are not UTF-8"),
    ):
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
        succeed(
            run_cli("convert", tmp_path / f"{name}.parquet", "--on-error", "skip", "-o", tmp_path / f"{name}.jsonl")
        )
        assert read_rows(tmp_path / f"{name}.jsonl") == [{"messages": [Q, A]}]
        (reject,) = read_rows(tmp_path / f"{name}.rejects.jsonl")
        assert (reject["source"]["row"], reject["detail"]) == (1, message)


def test_paths_lead_into_maps(tmp_path: Path) -> None:
    column = pa.array([[("en", "q"), ("fr", "a")]], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"translation": column}), tmp_path / "data.parquet")
    for question in ("translation.en", "{{ translation.en }}"):
        flags = ["--map", f"user={question}", "--map", "assistant=translation.fr"]
        assert json.loads(run_cli("convert", tmp_path / "data.parquet", *flags).stdout) == TALK


def test_an_observation_after_an_action_is_a_result() -> None:
    action = assistant('Thought: t\nAction: f\nAction Input: {"a": 1}')
    called = assistant("Thought: t", tool_calls=[call("f", {"a": 1})])
    rows = [talk(Q, action, user("Observation: r"), A, user("Observation: s"))]
    expected = talk(Q, called, {"role": "tool", "content": "r"}, A, user("Observation: s"))
    assert convert(rows, dialect="react")[0] == [expected]


def test_a_thought_among_parts_of_unknown_types_is_reasoning() -> None:
    parts = [{"type": "reasoning", "text": "t"}, {"type": "tool-f", "input": 1}, {"type": "text", "text": "a"}]
    columns = Columns(fields={"messages": "messages", "messages.role": "role", "messages.content": "parts"})
    made, _ = convert([talk({"role": "assistant", "parts": parts})], columns)
    assert made == [talk(assistant(parts[1:], reasoning_content="t"))]
    made, _ = convert([{"contents": [{"role": "model", "parts": parts}]}])
    assert made == [talk(assistant(parts))]


def test_pairs_that_a_policy_leaves_out_are_counted(tmp_path: Path) -> None:
    scores = [[1, 1], [1, 2], [1, 5], [None, 3], [2, 9]]
    rows = [{"prompt": "q", "responses": ["a", "b"], "scores": pair} for pair in scores]
    write_rows(tmp_path / "data.jsonl", rows)
    done = run_cli("convert", tmp_path / "data.jsonl", "--dialect-option", "margin=2")
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.decode() == (
        "wrote 2 rows to stdout, 274 B\n"
        "filtered out: 3 rows (dropped.pair.margin 1, dropped.pair.single 1, dropped.pair.tie 1)\n"
    )


def test_answers_without_scores_are_refused() -> None:
    with pytest.raises(DialectError, match="the answers in `completions` have no scores"):
        DIALECTS["scored"].convert(to_batch([{"prompt": "q", "completions": ["a", "b"]}]), Columns())


def test_an_expression_labels_the_answers(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"question": "q", "answer": "a", "score": 4}\n' * 2)
    done = run_cli("convert", tmp_path / "data.jsonl", "--label", "score > 4", "--to", "unpaired-preference")
    assert json.loads(done.stdout.splitlines()[1]) == {"prompt": [Q], "completion": [A], "label": False}


@pytest.mark.parametrize("none", [None, []])
@pytest.mark.parametrize("key", ["function_call", "toolCalls"])
def test_calls_under_another_key_are_read_beside_none(key: str, none: Any) -> None:
    turn = {**assistant(None), key: {"name": "f", "arguments": "{}"}, "tool_calls": none}
    columns = Columns(fields={} if key == "function_call" else {"messages.tool_calls": key})
    made, _ = convert([talk(Q, turn), talk(Q, {**A, "tool_calls": none})], columns)
    assert made == [talk(Q, assistant(None, tool_calls=[call("f", "{}")])), talk(Q, {**A, "tool_calls": none})]


REFUSED = {
    "reasoning that is a number": ([Q, assistant("a", reasoning_content=5)], "`reasoning_content` is a number"),
    "reasoning without text": ([Q, assistant("a", reasoning_content={"x": 1})], "without text"),
    "calls without a name": ([Q, assistant("", tool_calls=[{"arguments": {}}])], "does not hold calls with a name"),
    "calls that are no JSON": ([Q, assistant("", tool_calls="f()")], "does not hold calls with a name"),
    "calls beside an older one": (
        [Q, assistant("", tool_calls="f()"), assistant("", function_call={"name": "f"})],
        "does not hold calls with a name",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_turn_that_would_lose_something_is_refused(name: str) -> None:
    turns, message = REFUSED[name]
    with pytest.raises(DialectError, match=message) as raised:
        convert([TALK, {"messages": turns}])
    assert (raised.value.at.row, raised.value.at.message) == (1, 1)


CALLS = {
    "hermes": '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>',
    "toolace": "[f(a=1)]",
    "react": 'Action: f\nAction Input: {"a": 1}',
    "tail-calls": 'AI to=f: {"a": 1}',
}


@pytest.mark.parametrize("dialect", CALLS)
def test_a_turn_with_a_call_as_text_keeps_its_other_keys(dialect: str) -> None:
    listed = system('[{"name": "f"}]')
    made, _ = convert([talk(listed, Q, assistant(CALLS[dialect], weight=0))], dialect=dialect)
    assert made[0]["messages"][-1] == {"role": "assistant", "tool_calls": [call("f", {"a": 1})], "weight": 0}
