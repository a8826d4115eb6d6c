"""Batches are bounded by the text that comes out of them, whatever the template makes of a row."""

from __future__ import annotations

import json

import pytest

import chatfmt
from chatfmt import rendering
from chatfmt.recipe import Recipe
from chatfmt.rendering import BatchTooLarge

from ...conftest import write_rows

TEMPLATE = "{{ messages[0].content | replace('a', 'b' * 9) }}{{ messages[0].content | replace('a', 'cc') }}"
TEXTS = ["a" * size for size in (1, 90, 3, 200, 50, 0, 7, 120, 60, 60)]


@pytest.mark.parametrize("engine", ["auto", "jinja"])
@pytest.mark.parametrize("isolation", ["auto", "off"])
def test_rows_that_grow_are_rendered_in_smaller_batches(tmp_path, monkeypatch, engine, isolation):
    refused = []

    def check(size: float, rows: int) -> None:
        if size > 1000 and rows > 1:
            refused.append(rows)
            raise BatchTooLarge("")

    for module in (
        "render.trace.renderer",
        "render.jinja_renderer",
        "render.sandbox.renderer",
        "render.sandbox.process",
    ):
        monkeypatch.setattr(f"chatfmt.{module}.check_text_size", check)
    rows = [{"messages": [{"role": "user", "content": f"{text}."}]} for text in TEXTS]
    write_rows(tmp_path / "in.jsonl", rows)
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    recipe = Recipe(
        source=str(tmp_path / "in.jsonl"),
        template=str(tmp_path / "t.jinja"),
        engine=engine,
        template_isolation=isolation,
    )
    chatfmt.convert(recipe, out=tmp_path / "out.jsonl", workers=1)
    found = [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert found == ["b" * 9 * len(text) + "." + "cc" * len(text) + "." for text in TEXTS]
    assert refused


def test_texts_of_many_rows_are_too_large_together_and_one_row_never_is():
    rendering.check_text_size(rendering.MOST_TEXT + 1, 1)
    with pytest.raises(BatchTooLarge) as caught:
        rendering.check_text_size(rendering.MOST_TEXT + 1, 2)
    assert (str(caught.value), caught.value.hint) == (
        "2 rows become more than 128 MB of text",
        "render fewer rows at once",
    )
