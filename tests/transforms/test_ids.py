"""Ids that templates with a rule about them take: the probe names the transform, and the rows then render."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chatfmt
from chatfmt import transforms
from chatfmt.render.inspection.probe import probe

from ..conftest import run_here, write_rows
from .conversations import to_batch, to_rows

IDS = st.sampled_from([None, "", "call_1", "A1b2C3d4e", "a1b2-3d4e", "called0001", 7])


def told(calls: list[Any], results: list[Any]) -> dict[str, Any]:
    made = [{"id": id, "function": {"name": "f", "arguments": "{}"}} for id in calls]
    answers = [{"role": "tool", "content": "r", "tool_call_id": id} for id in results]
    return {"messages": [{"role": "assistant", "content": None, "tool_calls": made}, *answers]}


@given(calls=st.lists(IDS, min_size=1, max_size=4), results=st.lists(IDS, max_size=4))
def test_every_call_has_nine_signs_and_results_still_answer_the_same_call(calls: list[Any], results: list[Any]) -> None:
    batch, _ = transforms.apply(to_batch([told(calls, results)]), {"call_ids": "nine"})
    turn, *answers = to_rows(batch)[0]["messages"]
    made = [call["id"] for call in turn["tool_calls"]]
    assert all(re.fullmatch("[0-9A-Za-z]{9}", id) for id in made)
    for old, answer in zip(results, answers, strict=True):
        if old not in (None, ""):
            assert [id == answer["tool_call_id"] for id in made] == [id == old for id in calls]


def test_the_same_row_gets_the_same_ids_wherever_it_stands() -> None:
    rows = [told(["call_1", None], ["call_1", None]), told([None], [None])]
    both = to_rows(transforms.apply(to_batch(rows), {"call_ids": "nine"})[0])
    alone = to_rows(transforms.apply(to_batch(rows[1:]), {"call_ids": "nine"})[0])
    assert both[1:] == alone


@pytest.mark.parametrize("name", ["mistral", "mistral-nemo"])
def test_fit_renders_calls_without_ids(tmp_path: Path, name: str) -> None:
    template = chatfmt.ChatTemplate.load(name)
    assert "--transform call_ids=nine" in probe(template).flags
    source = tmp_path / "calls.jsonl"
    source.write_text(
        '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"type":"function",'
        '"function":{"name":"f","arguments":{}}}]},{"role":"tool","content":"b"},{"role":"assistant","content":"c"}]}\n'
    )
    out = tmp_path / "out.jsonl"
    recipe = chatfmt.Recipe(source=str(source), template=name, fit=True)
    summary = chatfmt.convert(recipe, out=out)
    assert dict(summary.changes) == {"call_ids": 1}
    (first, second) = re.findall(r'id\\": \\"(.*?)\\"', out.read_text("utf-8"))
    assert first == second and len(first) == 9


def test_a_template_that_wants_ids_gets_ids() -> None:
    text = (
        "{% for m in messages %}{{ m.role + (m.content or '') }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.arguments | tojson }}{% if c.id is not defined %}{{ raise_exception('no id') }}{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    card = probe(chatfmt.ChatTemplate("strict", text, {}))
    assert (card.tool_ids, "--transform call_ids=fill" in card.flags) == ("required", True)


@pytest.mark.parametrize("value", ["fill", "nine", "named"])
def test_ids_are_those_of_the_whole_conversation_also_where_it_is_a_prompt_and_its_completions(value: str) -> None:
    """A result may be the first turn after the prompt that has its call."""
    turns = [*told([None], [None])["messages"], *told([None], [None])["messages"]]
    whole = to_rows(transforms.apply(to_batch([{"messages": turns}]), {"call_ids": value})[0])[0]["messages"]
    ids = [turn["tool_calls"][0]["id"] for turn in whole[::2]]
    assert len({*ids}) == 2 and [turn["tool_call_id"] for turn in whole[1::2]] == ids
    for cut in range(1, 4):
        rows = [{"prompt": turns[:cut], "completion": turns[cut:]},
                {"prompt": turns[:cut], "chosen": turns[cut:], "rejected": turns[cut:]}]  # fmt: skip
        for row in rows:
            (made,) = to_rows(transforms.apply(to_batch([row]), {"call_ids": value})[0])
            assert [[*made["prompt"], *made[name]] for name in [*row][1:]] == [whole] * (len(row) - 1)


NAMED = ["functions.f:0", "functions.f:1", "functions.f:2"]


@pytest.mark.parametrize(
    ("calls", "results", "ids", "answered"),
    [
        (["call_1", None, "functions.f:7"], [None, None, None], [*NAMED[:2], "functions.f:7"],
         [*NAMED[:2], "functions.f:7"]),
        (["call_2", "call_1"], ["call_1", "call_2", "other"], NAMED[:2], [NAMED[1], NAMED[0], "other"]),
        (NAMED, NAMED[:1], NAMED, NAMED[:1]),
    ],
)  # fmt: skip
def test_ids_of_names(calls: list[Any], results: list[Any], ids: list[str], answered: list[str]) -> None:
    row = told(calls, results)
    batch, _ = transforms.apply(to_batch([{"messages": [*row["messages"], *told(["x"], ["x"])["messages"]]}]),
                                {"call_ids": "named"})  # fmt: skip
    turn, *answers, last, end = to_rows(batch)[0]["messages"]
    assert [call["id"] for call in turn["tool_calls"]] == ids
    assert [answer["tool_call_id"] for answer in answers] == answered
    assert last["tool_calls"][0]["id"] == end["tool_call_id"] == f"functions.f:{len(calls)}"


@pytest.mark.parametrize("name", ["kimi-k2", "kimi-k2-thinking"])
def test_kimi_prints_the_id_for_the_name(tmp_path: Path, name: str) -> None:
    assert "--transform call_ids=named" in probe(chatfmt.ChatTemplate.load(name)).flags
    for id, flags in (("call_1", ["--fit"]), ("functions.look:0", [])):
        turns = [{"role": "user", "content": "q"}, *told([id], [id])["messages"], {"role": "assistant", "content": "a"}]
        turns[1]["tool_calls"][0]["function"]["name"] = "look"
        write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
        run = run_here("convert", "in.jsonl", "-t", name, "--mask", *flags, cwd=tmp_path)
        row = json.loads(run.stdout)
        call = "<|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
        said = [row["text"][slice(*span)] for span in row["assistant_spans"]]
        assert said == [f"<|tool_calls_section_begin|>{call}<|tool_calls_section_end|><|im_end|>", "a<|im_end|>"]
        assert "## Return of functions.look:0\nr<|im_end|>" in row["text"]
    (tmp_path / "in.jsonl").write_text(json.dumps({"messages": turns}).replace("functions.look:0", "call_1") + "\n")
    run = run_here("convert", "in.jsonl", "-t", name, cwd=tmp_path)
    assert run.returncode == 6 and "hint: `--fit` adapts the data where it can; " in run.stderr.decode()
