"""Every shared dataset is detected and converted without flags to what plain Python makes of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt import schema
from chatfmt.dialects import DIALECTS, Columns, detect, used_columns

from ..conftest import SHARED, needs_shared
from .batches import conversations, to_batch

Row = dict[str, Any]


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def flat(question: str, answer: str) -> Callable[[Row], Row]:
    return lambda row: {"messages": [user(row[question]), assistant(row[answer])]}


def joined(question: str, context: str, answer: str) -> Callable[[Row], Row]:
    def expected(row: Row) -> Row:
        asked = f"{row[question]}\n{row[context]}" if row[context].strip() else row[question]
        return {"messages": [user(asked), assistant(row[answer])]}

    return expected


def alpaca(row: Row) -> Row:
    return joined("instruction", "input", "output")(row)


ROLES = {"human": "user", "gpt": "assistant", "system": "system", "observation": "tool"}


def turn(value: Row) -> Row:
    if value["from"] == "function_call":
        call = {"type": "function", "function": json.loads(value["value"])}
        return {"role": "assistant", "tool_calls": [call]}
    return {"role": ROLES[value["from"]], "content": value["value"]}


def sharegpt(row: Row) -> Row:
    tools = [{"type": "function", "function": spec} for spec in json.loads(row.get("tools", "[]"))]
    return {"messages": [turn(value) for value in row["conversations"]], **({"tools": tools} if tools else {})}


def as_is(*names: str) -> Callable[[Row], Row]:
    renamed = {"chat_template_kwargs": "template_kwargs"}
    return lambda row: {renamed.get(name, name): row[name] for name in names}


def standard(row: Row) -> Row:
    if "chosen" in row and "prompt" not in row:
        row = implicit(row)
    out = {"prompt": [user(row["prompt"])]} if "prompt" in row else {}
    out |= {name: [assistant(row[name])] for name in ("chosen", "rejected", "completion") if name in row}
    return {**out, **{name: row[name] for name in ("label", "completions", "labels") if name in row}}


def implicit(row: Row) -> Row:
    """Return the row with the shared prompt split off; a space before the first difference belongs to the answers."""
    chosen, rejected = row["chosen"], row["rejected"]
    place = 0
    while chosen[place] == rejected[place]:
        place += 1
    place -= chosen[place - 1] == " "
    return {"prompt": chosen[:place], "chosen": chosen[place:], "rejected": rejected[place:]}


def tree(row: Row) -> Row:
    path = [row["prompt"]]
    while replies := path[-1].get("replies"):
        path.append(min(replies, key=lambda reply: (reply.get("rank") is None, reply.get("rank") or 0)))
    roles = {"prompter": "user", "assistant": "assistant"}
    return {"messages": [{"role": roles[node["role"]], "content": node["text"]} for node in path]}


def bfcl(row: Row) -> Row:
    text = json.dumps(row["function"])
    for old, new in (("dict", "object"), ("float", "number"), ("tuple", "array"), ("any", "string")):
        text = text.replace(f'"type": "{old}"', f'"type": "{new}"')
    return {
        "prompt": row["question"][0],
        "tools": [{"type": "function", "function": spec} for spec in json.loads(text)],
    }


MESSAGES = as_is("messages")
KWARGS = "chat_template_kwargs"
EXPECTED: dict[str, tuple[str, str, Callable[[Row], Row]]] = {
    "gsm8k_train.jsonl": ("prompt-completion", "language-modeling", flat("question", "answer")),
    "gsm8k_test.jsonl": ("prompt-completion", "language-modeling", flat("question", "answer")),
    "gsm8k_test_socratic.jsonl": ("prompt-completion", "language-modeling", flat("question", "answer")),
    "alpaca_identity.json": ("alpaca", "language-modeling", alpaca),
    "alpaca_chatdoctor.json": ("alpaca", "language-modeling", alpaca),
    "alpaca_oumi.jsonl": ("alpaca", "language-modeling", alpaca),
    "dolly_sample.json": ("dolly", "language-modeling", joined("instruction", "context", "response")),
    "sharegpt_fastchat.json": ("sharegpt", "language-modeling", sharegpt),
    "sharegpt_evol.jsonl": ("sharegpt", "language-modeling", sharegpt),
    "sharegpt_toolcall.json": ("sharegpt", "language-modeling", sharegpt),
    "messages_sft.jsonl": ("messages", "language-modeling", MESSAGES),
    "messages_swe.jsonl": ("messages", "language-modeling", MESSAGES),
    "messages_oumi.json": ("messages", "language-modeling", MESSAGES),
    "messages_toy_invalid.jsonl": ("messages", "language-modeling", MESSAGES),
    "prompt_completion.jsonl": ("prompt-completion", "prompt-completion", flat("prompt", "completion")),
    "preference_sharegpt.json": ("preference", "preference", lambda row: {
        "prompt": sharegpt(row)["messages"], "chosen": [turn(row["chosen"])], "rejected": [turn(row["rejected"])]}),
    "kto_messages.json": ("messages", "unpaired-preference", as_is("messages", "label")),
    "oasst_trees.jsonl": ("oasst-trees", "language-modeling", tree),
    "mt_bench_question.jsonl": ("user-turns", "prompt-only", lambda row: {"prompt": [user(t) for t in row["turns"]]}),
    "bfcl_simple.json": ("bfcl", "prompt-only", bfcl),
    "verl_code_contests.parquet": ("conversational", "prompt-only", as_is("prompt")),
    "svamp.csv": ("prompt-completion", "language-modeling", flat("Question", "Answer")),
    "trl_harmony_language_modeling.jsonl": ("messages", "language-modeling", as_is("messages", KWARGS)),
    "trl_harmony_preference.jsonl": ("preference", "preference", as_is("prompt", "chosen", "rejected", KWARGS)),
    "trl_harmony_prompt_completion.jsonl": (
        "conversational", "prompt-completion", as_is("prompt", "completion", KWARGS)),
    "trl_zen_conversational_implicit_prompt_preference.jsonl": (
        "preference", "preference", as_is("chosen", "rejected")),
    "trl_zen_conversational_language_modeling.jsonl": ("messages", "language-modeling", MESSAGES),
    "trl_zen_conversational_preference.jsonl": ("preference", "preference", as_is("prompt", "chosen", "rejected")),
    "trl_zen_conversational_prompt_completion.jsonl": (
        "conversational", "prompt-completion", as_is("prompt", "completion")),
    "trl_zen_conversational_prompt_only.jsonl": ("conversational", "prompt-only", as_is("prompt")),
    "trl_zen_conversational_unpaired_preference.jsonl": (
        "conversational", "unpaired-preference", as_is("prompt", "completion", "label")),
    "trl_zen_standard_implicit_prompt_preference.jsonl": ("preference", "preference", standard),
    "trl_zen_standard_language_modeling.jsonl": ("text", "text", as_is("text")),
    "trl_zen_standard_preference.jsonl": ("preference", "preference", standard),
    "trl_zen_standard_prompt_completion.jsonl": (
        "prompt-completion", "prompt-completion", flat("prompt", "completion")),
    "trl_zen_standard_prompt_only.jsonl": ("prompt-only", "prompt-only", standard),
    "trl_zen_standard_stepwise_supervision.jsonl": ("stepwise", "stepwise", standard),
    "trl_zen_standard_unpaired_preference.jsonl": ("unpaired-preference", "unpaired-preference", standard),
    "smoltalk_like_2k.parquet": ("messages", "language-modeling", MESSAGES),
}  # fmt: skip


def read(path: Path) -> tuple[list[Row], pa.RecordBatch]:
    """Return the rows of a file read by plain Python, and the source batch that a reader makes of them."""
    if path.suffix == ".parquet":
        table = pq.read_table(path).combine_chunks()
        rows = table.to_pylist()
        numbered = table.add_column(0, schema.ROW, pa.array(range(len(table)), pa.int64()))
        return rows, numbered.to_batches()[0]
    text = path.read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text))) if path.suffix == ".csv" else _records(text)
    return rows, to_batch(rows)


def _records(text: str) -> list[Row]:
    try:
        found = json.loads(text)
    except ValueError:
        found = [json.loads(line) for line in text.split("\n") if line.strip()]
    return found if isinstance(found, list) else [found]


@needs_shared
def test_every_file_is_tested() -> None:
    assert SHARED is not None
    files = {path.name for path in (SHARED / "data").iterdir() if path.is_file()}
    assert files - {"README.md", "MANIFEST.json"} == set(EXPECTED)


@needs_shared
@pytest.mark.parametrize("name", EXPECTED)
def test_shared_file(name: str) -> None:
    assert SHARED is not None
    dialect, type, expected = EXPECTED[name]
    rows, batch = read(SHARED / "data" / name)
    found = detect([batch.slice(0, 300)], Columns())
    assert (found.dialect, found.type) == (dialect, type)
    needed = [name for name in (schema.ROW, *used_columns(found)) if name in batch.schema.names]
    made = DIALECTS[dialect].convert(batch.select(needed), found.columns)
    assert conversations(made) == [{"row": number, **expected(row)} for number, row in enumerate(rows)]
