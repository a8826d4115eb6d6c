"""Rows that are left out for a lost text: one stands for those that must lose the same, and for no others."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ...conftest import read_rows, run_cli, write_rows

Row = dict[str, Any]
SKIP = ("--on-error", "skip", "--max-bad", "100%", "-q")
FILES = {
    "no_system.jinja": "{% for m in messages if m.role != 'system' %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
    "last_answer.jinja": (
        "{% for m in messages %}{% if m.role != 'assistant' or loop.last %}{{ m.role }}: {{ m.content }}\n"
        "{% endif %}{% endfor %}"
    ),
    "compares.jinja": (
        "{% for m in messages %}{% if m.content and m.content != 'Hi' and (loop.first or m.content != "
        "messages[0].content) and 'plain' not in m.content %}{{ m.content }}{% else %}-{% endif %}\n{% endfor %}"
    ),
    "reasons.jinja": (
        "{% for m in messages %}{{ m.reasoning_content or m.content.split('</think>')[-1] }}\n{% endfor %}"
    ),
}
THOUGHT = "<think>a</think>"


def row(*texts: str) -> Row:
    roles = ["system", *["user", "assistant"] * len(texts)]
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]}


def answers(*texts: str) -> Row:
    roles = ["user", "assistant"] * len(texts)
    turns = [text for answer in texts for text in ("q", answer)]
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]}


def convert(folder: Path, rows: list[Row], *options: str) -> tuple[list[str], list[tuple[int, str, str]]]:
    """Return the texts that were written, and the row, code and detail of each one that was left out."""
    write_rows(folder / "in.jsonl", rows)
    for name, template in FILES.items():
        (folder / name).write_text(template)
    done = run_cli("convert", "in.jsonl", "-o", "o.jsonl", "--overwrite", *SKIP, *options, cwd=folder)
    rejects = folder / "o.rejects.jsonl"
    bad = read_rows(rejects) if rejects.exists() else []
    texts = (folder / "o.jsonl").read_text().splitlines() if (folder / "o.jsonl").exists() else []
    assert len(texts) + len(bad) == len(rows), done.stderr
    rejects.unlink(missing_ok=True)
    (folder / "o.jsonl").unlink(missing_ok=True)
    return texts, [(each["source"]["row"], each["code"], each["detail"]) for each in bad]


TEXT = st.sampled_from(
    ["", " ", "\n", THOUGHT, f"{THOUGHT}b", f"{THOUGHT}c", "Hi", "Yes.", "a plain text", "\U000f0000"]
)
CALL = {"type": "function", "function": {"name": "look", "arguments": {}}}
TURN_EXTRAS = st.dictionaries(
    st.sampled_from(["reasoning_content", "thinking", "name"]), st.sampled_from([" ", "Hi", "b"]), max_size=2
)
CHANCE = st.integers(0, 7)


@st.composite
def conversations(draw: st.DrawFn) -> Row:
    found = row(*draw(st.lists(TEXT, min_size=3, max_size=3)), *draw(st.sampled_from([(), ("Hi", "Yes."), (" ", "b")])))
    if not draw(CHANCE):
        found["messages"][2].update(draw(TURN_EXTRAS))
    if not draw(CHANCE):
        found["messages"][2].update(tool_calls=[CALL])
    return found


WITH_PARTS = row("Hi", "", "Yes.")
WITH_PARTS["messages"][1]["content"] = [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
TEMPLATES = ["mistral", "gemma", "chatml", "qwen3", *FILES]


@settings(max_examples=max(1, settings.default.max_examples // 8), phases=(Phase.explicit, Phase.generate))
@given(
    st.sampled_from(TEMPLATES),
    st.lists(conversations(), min_size=4, max_size=9),
    st.sampled_from([[], [], [], [WITH_PARTS]]),
    st.booleans(),
)
def test_rows_share_no_verdict_but_their_own(template: str, rows: list[Row], more: list[Row], allowed: bool) -> None:
    options = ["-t", template, *(["--allow-loss", "reasoning"] if allowed else [])]
    rows = rows * 10 + more  # so many that programs render them, and few enough for Jinja to look at each
    with tempfile.TemporaryDirectory() as folder:
        shared = convert(Path(folder), rows, *options)
        assert shared == convert(Path(folder), rows, *options, "--engine", "jinja")


def lost(rows: range, role: str, template: str) -> list[tuple[int, str, str]]:
    return [(number, "template.loss", f"template `{template}` loses the text of role `{role}`") for number in rows]


@pytest.mark.parametrize("template", ["mistral", "no_system.jinja"])
def test_a_blank_text_in_one_turn_is_not_one_in_another(template: str, tmp_path: Path) -> None:
    texts = [f"Be short {number}." for number in range(30)]
    fill = "Be short"
    rows = [row(" ", "Hi", "Yes."), *[row(text, " ", "Yes.") for text in texts], *[row(fill, "Hi", "Yes.")] * 5]
    written = convert(tmp_path, rows[:1], "-t", template, "--engine", "jinja")[0]
    assert len(written) == 1
    assert convert(tmp_path, rows, "-t", template) == (written, lost(range(1, 36), "system", template))
    rows = [*rows[1:31], *rows[:1] * 3, *rows[31:]]
    numbers = lost(range(36 + 2), "system", template)
    assert convert(tmp_path, rows, "-t", template) == (written * 3, numbers[:30] + numbers[33:])


def test_blank_texts_are_told_from_others_beside_a_row_with_parts(tmp_path: Path) -> None:
    rows = [row("  ", "Hi", "Yes."), *[row(f"Be short {n}.", "Hi", "Yes.") for n in range(30)]]
    parts = row("  ", "Hi", "Yes.")
    parts["messages"][1]["content"] = [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]
    text = '{"text":"user: Hi\\nassistant: Yes.\\n"}'
    texts, bad = convert(tmp_path, [*rows, parts], "-t", "no_system.jinja")
    assert texts[0] == text and bad[:30] == lost(range(1, 31), "system", "no_system.jinja")
    assert (texts, bad) == convert(tmp_path, [*rows, parts], "-t", "no_system.jinja", "--engine", "jinja")


def test_reasoning_alone_is_not_reasoning_before_an_answer(tmp_path: Path) -> None:
    rows = [answers(THOUGHT, "z")] * 3 + [answers(f"{THOUGHT}answer {number}", "z") for number in range(30)]
    found = convert(tmp_path, rows, "-t", "last_answer.jinja", "--allow-loss", "reasoning")
    text = '{"text":"user: q\\nuser: q\\nassistant: z\\n"}'
    assert found == ([text] * 3, lost(range(3, 33), "assistant", "last_answer.jinja"))


def test_rows_that_the_template_refuses_are_refused_for_that_and_not_for_their_images(tmp_path: Path) -> None:
    image, text = {"type": "image", "url": "x.png"}, {"type": "text", "text": "q"}
    turns = [{"role": "user", "content": [image, text]}, {"role": "assistant", "content": "a"}]
    refused = 'can only concatenate list (not "str") to list'
    assert convert(tmp_path, [{"messages": turns}] * 22 + [answers("b")], "-t", "chatml") == (
        ['{"text":"<|im_start|>user\\nq<|im_end|>\\n<|im_start|>assistant\\nb<|im_end|>\\n","images":[]}'],
        [(number, "template.error", refused) for number in range(22)],
    )
