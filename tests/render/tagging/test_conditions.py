"""Explanations of when a piece is trained: the simplest that fits what was seen."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from chatfmt.render.tagging.conditions import explain

ROWS = ["".join(row) for row in product("01", repeat=3)]


@pytest.mark.parametrize(
    ("rule", "plain", "written"),
    [
        (lambda a, b, c: a, True, "a"),
        (lambda a, b, c: a and b, True, "(a) and (b)"),
        (lambda a, b, c: b or c, True, "(b) or (c)"),
        (lambda a, b, c: not b, False, "not (b)"),
        (lambda a, b, c: a and not b, False, "(a) and (not (b))"),
        (lambda a, b, c: a and b and not c, False, "(a) and (b) and (not (c))"),
        (lambda a, b, c: a and (b or not c), False, "(a) and ((b) or (not (c)))"),
        (lambda a, b, c: not a or (b and c), False, "(not (a)) or ((b) and (c))"),
        (lambda a, b, c: a != b, False, None),
    ],
)
def test_the_simplest_condition_is_found(rule: Callable[..., bool], plain: bool, written: str | None) -> None:
    seen = [(row, bool(rule(*(digit == "1" for digit in row)))) for row in ROWS]
    for effort in ("plain", "state"):
        found = explain(seen, effort)  # type: ignore[arg-type]
        assert (found and found.written("abc")) == (written if plain or effort == "state" else None)
        assert found is None or all(found(row) is trained for row, trained in seen)
