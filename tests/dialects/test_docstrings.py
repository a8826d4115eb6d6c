"""Every dialect draws its input and its output: the drawings are true."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from chatfmt.dialects import DIALECTS, Columns

from .batches import convert

_DRAWN = re.compile(
    r"^\s*(In:|or|Out:)\s+(`.*?`)(?=\s*(?:$|\n\s*(?:or|Out:|In:)|\n\n| with))", re.MULTILINE | re.DOTALL
)


def drawings(doc: str) -> tuple[list[list[dict[str, Any]]], list[dict[str, Any]]]:
    """The inputs (each a list of rows) and the output rows drawn in a docstring; those with `…` are left out."""
    inputs, outputs = [], []
    for kind, text in _DRAWN.findall(doc):
        rows = [re.sub(r"\n\s+", " ", part) for part in re.findall(r"`(\{.*?\})`(?=,?\s|$)", text + "\n", re.DOTALL)]
        if any("…" in row for row in rows) or not rows:
            continue
        (outputs if kind == "Out:" else inputs).append([json.loads(row) for row in rows])
    return inputs, [row for rows in outputs for row in rows]


DRAWN = [name for name in DIALECTS if "In:" in (getattr(DIALECTS[name].convert, "__doc__", None) or "")]


def test_all_dialects_are_drawn() -> None:
    assert set(DIALECTS) - set(DRAWN) == {"mixed"}
    assert len(DRAWN) >= 41


@pytest.mark.parametrize("name", DRAWN)
def test_the_drawing_is_true(name: str) -> None:
    inputs, expected = drawings(DIALECTS[name].convert.__doc__ or "")
    assert inputs, f"no input is drawn for {name}"
    for rows in inputs:
        made, _ = convert(rows, Columns())
        if DIALECTS[name].opt_in:
            made, _ = convert(rows, Columns(), name)
        if name == "conversational":
            expected = rows
        assert made == expected
