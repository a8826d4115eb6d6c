"""Rows that stay are rendered once, however many rows of their batch are rejected, and before or after they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import chatfmt
from chatfmt.pipeline.conversion import stages
from chatfmt.recipe import Recipe

from ..test_convert import read

ASKED = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
REFUSED = {"messages": [ASKED[0], *ASKED]}
UNTRAINED = {"messages": [ASKED[0], {**ASKED[1], "weight": 0}]}
ROLE = {"messages": [{"role": "robot", "content": "a"}, ASKED[1]]}


@pytest.mark.parametrize(
    ("bad", "keys", "rendered"),
    [
        ([REFUSED] * 8, {}, 18),
        ([REFUSED], {}, 11),
        ([UNTRAINED] * 8, {"mask": True}, 18),
        ([REFUSED, UNTRAINED] * 3, {"mask": True}, 16),
        ([ROLE] * 8, {}, 10),
        ([ROLE, REFUSED] * 4, {}, 14),
    ],
)
def test_rendered_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: list[Any], keys: dict[str, Any], rendered: int
) -> None:
    rows = [{"messages": [{**ASKED[0], "content": str(row)}, ASKED[1]]} for row in range(10)]
    for place, row in enumerate(bad):
        rows.insert(2 * place + 1, row)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counted: list[int] = []
    original = stages.to_renderer

    def counting(*args: Any) -> Any:
        renderer = original(*args)

        def render(chats: Any, *more: Any) -> Any:
            counted.append(len(chats))
            return renderer(chats, *more)

        return render

    monkeypatch.setattr(stages, "to_renderer", counting)
    recipe = Recipe(source=str(tmp_path / "in.jsonl"), template="gemma", engine="jinja", on_error="skip",
                    max_bad="100%", **keys)  # fmt: skip
    done = chatfmt.convert(recipe, out=tmp_path / "out.jsonl", executor="serial")
    assert (done.rows, done.rejected, sum(counted)) == (10, len(bad), rendered)
    texts = [row["text"] for row in read(tmp_path / "out.jsonl")]
    assert texts == [
        f"<bos><start_of_turn>user\n{row}<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>\n" for row in range(10)
    ]
