"""Ids that templates with a rule about them take: the probe names the transform, and the rows then render."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chatfmt
from chatfmt import transforms
from chatfmt.render.inspection.probe import probe

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
