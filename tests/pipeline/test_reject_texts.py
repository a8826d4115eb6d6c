"""Rejects are the same in every run: no text of an error holds a memory address."""

from __future__ import annotations

import json

import pytest

import chatfmt
from chatfmt.errors import DataProblem
from chatfmt.recipe import Recipe

PRINTED = "the template prints <jinja2.utils.Joiner object>, a memory address that differs from run to run"


@pytest.mark.parametrize("isolation", ["auto", "off"])
@pytest.mark.parametrize(
    ("template", "detail"),
    [
        ("{{ messages[0].content }}{{ joiner() }}", PRINTED),
        ("{{ raise_exception('no ' ~ joiner() ~ messages[0].content) }}", "no <jinja2.utils.Joiner object>hi"),
    ],
)
def test_rejects_hold_no_addresses(tmp_path, template, detail, isolation):
    (tmp_path / "in.jsonl").write_text('{"messages":[{"role":"user","content":"hi"}]}\n')
    (tmp_path / "t.jinja").write_text(template)
    recipe = Recipe(
        source=str(tmp_path / "in.jsonl"), template=str(tmp_path / "t.jinja"), template_isolation=isolation,
        on_error="skip", max_bad="100%",
    )  # fmt: skip
    with pytest.raises(DataProblem, match="^the only row was rejected"):
        chatfmt.convert(recipe, out=tmp_path / "out.jsonl", rejects=tmp_path / "bad.jsonl", workers=1)
    assert [json.loads(line)["detail"] for line in (tmp_path / "bad.jsonl").read_text().splitlines()] == [detail]
