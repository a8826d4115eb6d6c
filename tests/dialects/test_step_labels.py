"""Labels of steps by a threshold, and answers whose order alone says which is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import chatfmt
from chatfmt.errors import ChatfmtError
from chatfmt.recipe import Layer, build, with_full_keys

from ..conftest import read_rows, write_rows


def convert(tmp_path: Path, row: dict[str, Any], **keys: Any) -> list[dict[str, Any]]:
    write_rows(tmp_path / "in.jsonl", [row])
    recipe, _, _ = build([Layer("flag", with_full_keys({"source": str(tmp_path / "in.jsonl"), **keys}))])
    chatfmt.convert(recipe, out=tmp_path / "out.jsonl", overwrite=True, executor="serial")
    return read_rows(tmp_path / "out.jsonl")


SOFT = {"prompt": "p", "completions": ["s", "t", "u"], "labels": [0.9, 0.5, 0.2]}


@pytest.mark.parametrize(
    ("row", "label"),
    [
        (SOFT, "labels >= 0.5"),
        ({"prompt": "p", "steps": ["s", "t", "u"], "step_scores": [3, 2, -1]}, "step_scores >= 2"),
    ],
)
def test_a_threshold_for_steps(row: dict[str, Any], label: str, tmp_path: Path) -> None:
    drop = {"drop": ["step_scores"]} if "step_scores" in row else {}
    (made,) = convert(tmp_path, row, label=label, **drop)
    assert (made["completions"], made["labels"]) == (["s", "t", "u"], [True, True, False])


@pytest.mark.parametrize(("text", "label", "labels"), [("text", "rating", (1, -1)), ("step", "correct", (True, False))])
def test_steps_with_their_labels(text: str, label: str, labels: tuple[Any, ...], tmp_path: Path) -> None:
    steps = [{text: step, label: value} for step, value in zip("st", labels, strict=True)]
    (made,) = convert(tmp_path, {"problem": "p", "steps": steps})
    assert (made["completions"], made["labels"]) == (["s", "t"], [True, False])


def test_soft_labels_without_a_threshold_say_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(ChatfmtError) as raised:
        convert(tmp_path, SOFT)
    assert raised.value.hint == "--label 'labels >= 0.5' calls steps of at least 0.5 right"
    assert not (tmp_path / "out.jsonl").exists()


RANKED = {"prompt": "p", "responses": ["a", "b", "c"]}


def test_answers_in_order_of_quality(tmp_path: Path) -> None:
    with pytest.raises(ChatfmtError) as raised:
        convert(tmp_path, RANKED)
    assert raised.value.hint == (
        "`responses` holds several answers without scores: --dialect-option ranked=best-first if the first is the best"
    )
    for order, expected in (("best-first", ("a", "c")), ("worst-first", ("c", "a"))):
        (made,) = convert(tmp_path, RANKED, dialect_options={"ranked": order})
        assert (made["chosen"][0]["content"], made["rejected"][0]["content"]) == expected
