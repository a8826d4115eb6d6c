"""The docstring of every dialect shows its input and output; converting the input gives the output."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from chatfmt.dialects import DIALECTS, Columns

from .batches import convert

_EXAMPLE = re.compile(
    r"^\s*(In:|or|Out:)\s+(`.*?`)(?=\s*(?:$|\n\s*(?:or|Out:|In:)|\n\n| with))", re.MULTILINE | re.DOTALL
)


def examples(doc: str) -> tuple[list[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Return the inputs (each a list of rows) and the output rows in a docstring, without those with `…`."""
    inputs, outputs = [], []
    for kind, text in _EXAMPLE.findall(doc):
        rows = [re.sub(r"\n\s+", " ", part) for part in re.findall(r"`(\{.*?\})`(?=,?\s|$)", text + "\n", re.DOTALL)]
        if any("…" in row for row in rows) or not rows:
            continue
        (outputs if kind == "Out:" else inputs).append([json.loads(row) for row in rows])
    return inputs, [row for rows in outputs for row in rows]


DOCUMENTED = [name for name in DIALECTS if "In:" in (getattr(DIALECTS[name].convert, "__doc__", None) or "")]


def test_every_dialect_has_an_example() -> None:
    assert set(DIALECTS) - set(DOCUMENTED) == {"mixed"}
    assert len(DOCUMENTED) >= 41


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_example_is_true(name: str) -> None:
    inputs, expected = examples(DIALECTS[name].convert.__doc__ or "")
    assert inputs, f"{name} has no example"
    for rows in inputs:
        made, _ = convert(rows, Columns())
        if DIALECTS[name].opt_in:
            made, _ = convert(rows, Columns(), name)
        if name == "conversational":
            expected = rows
        assert made == expected
