"""TRL as the oracle: its `prepare_multimodal_messages` takes what chatfmt writes, and renders the same text."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TRL_TEMPLATES, needs_trl
from tests.media.test_cases import CASES, IMAGE, converted, say, turns
from tests.render.oracle import expected

pytestmark = needs_trl


@pytest.fixture(scope="module")
def prepare() -> Callable[..., list[dict[str, Any]]]:
    """TRL's function alone: its module needs torch."""
    assert TRL_TEMPLATES is not None
    tree = ast.parse((TRL_TEMPLATES.parent / "data_utils.py").read_text(encoding="utf-8"))
    names = ("prepare_multimodal_messages",)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    found: dict[str, Any] = {"Any": Any}
    exec(compile(tree, "data_utils.py", "exec"), found)  # noqa: S102
    made: Callable[..., list[dict[str, Any]]] = found["prepare_multimodal_messages"]
    return made


WITH_IMAGES = [name for name, (_, made) in CASES.items() if {"images", "messages"} == set(made)]


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_trl_finds_a_place_for_each_image(name: str, prepare: Any) -> None:
    made = copy.deepcopy(CASES[name][1])
    prepared = prepare(made["messages"], made["images"])
    parts = [part for turn in prepared for part in turn["content"] if part["type"] == "image"]
    assert [part["image"] for part in parts] == made["images"]


def test_images_without_a_place_go_where_trl_puts_them(tmp_path: Path, prepare: Any) -> None:
    messages = [{"role": "system", "content": "s"}, *turns("What?"), *turns("And?")]
    row = {"messages": messages, "images": ["a.png", "b.png"]}
    (made,) = converted(tmp_path, [row])
    assert made["messages"] != messages
    assert prepare(made["messages"], made["images"]) == prepare(messages, row["images"])


@pytest.mark.parametrize(
    ("template", "published"),
    [
        ("qwen2.5-vl", "qwen2_5_vl"),
        ("qwen3-vl", "qwen3_vl"),
        ("llava-next", "llava_next"),
        ("gemma-3", "gemma3"),
        ("smolvlm", "smolvlm"),
    ],
)
def test_a_text_is_what_trl_renders(template: str, published: str, tmp_path: Path, prepare: Any) -> None:
    rows = [
        {"images": ["a.png"], "messages": turns("<image>What?", "A cat.")},
        {"images": ["a.png", "b.png"], "messages": [*turns("<image>one, <image>two"), *turns("And?", "b")]},
        {"images": ["a.png"], "messages": turns([say("See"), IMAGE], [say("I see.")])},
        {"images": [], "messages": turns("No image.")},
        {"images": ["a.png"], "messages": turns("What?")},
    ]
    assert TRL_TEMPLATES is not None
    text = (TRL_TEMPLATES / f"{published}.jinja").read_text(encoding="utf-8")
    made = converted(tmp_path, rows, "--to", "messages")
    prepared = [prepare(row["messages"], row["images"]) for row in json.loads(json.dumps(made))]
    wanted = [expected(text, {"messages": messages}, "plain")[1] for messages in prepared]
    rendered = converted(tmp_path, rows, "-t", template)
    bos = {"gemma-3": ("<bos>", "<s>")}.get(template, ("", ""))
    assert [row["text"].replace(*bos) for row in rendered] == wanted
    assert [row["images"] for row in rendered] == [row["images"] for row in rows]
