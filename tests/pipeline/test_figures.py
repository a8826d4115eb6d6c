"""Histograms and counts of repeats against plain Python."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt import Recipe
from chatfmt.errors import Location
from chatfmt.pipeline import Scratch
from chatfmt.pipeline.inspection.figures import distinct
from chatfmt.pipeline.inspection.figures.aggregate import Example, Figures, values
from chatfmt.pipeline.inspection.figures.distinct import Repeats
from chatfmt.pipeline.inspection.figures.gather import gather
from chatfmt.pipeline.inspection.figures.histogram import EXACT, Histogram
from chatfmt.pipeline.inspection.figures.picks import NUMBERS

LENGTHS = st.lists(st.integers(0, 500) | st.integers(EXACT - 5, EXACT + 5) | st.integers(0, 1 << 40), min_size=1)


@given(LENGTHS, LENGTHS)
def test_percentiles_of_merged_histograms_are_those_of_the_numbers(one: list[int], other: list[int]) -> None:
    made, more = Histogram(), Histogram()
    made.add(np.array(one))
    more.add(np.array(other))
    made.merge(more)
    ordered = sorted([*one, *other])
    found = dict(made.statistics())
    assert (found["min"], found["max"], made.total) == (ordered[0], ordered[-1], sum(ordered))
    for percent in (10, 50, 90, 95, 99):
        exact = ordered[max(1, -(-len(ordered) * percent // 100)) - 1]
        assert exact <= found[f"p{percent}"] <= max(exact, exact * 1.001 if exact >= EXACT else exact)
    bins = made.bins(14)
    assert sum(each.count for each in bins) == len(ordered) and len(bins) <= 15
    assert all(one.stop == two.start for one, two in pairwise(bins))
    if ordered[-1] < EXACT:
        counted = [sum(each.start <= length < each.stop for length in ordered) for each in bins]
        assert [each.count for each in bins] == counted
        assert made.above(ordered[0]) == sum(length > ordered[0] for length in ordered)


def test_repeats_are_exact_until_they_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [bytes(key) for key in np.random.default_rng(0).integers(0, 256, (8000, 8), np.uint8)]
    exact, halves = Repeats(), [Repeats(), Repeats()]
    exact.add([*digests, *digests[:500], *digests[:500]])
    assert (exact.is_exact, exact.repeated) == (True, 1000)
    monkeypatch.setattr(distinct, "KEPT", 2000)
    for half in halves:
        half.add(digests)
    halves[0].merge(halves[1])
    assert not halves[0].is_exact and len(halves[0].hashes) <= 2000
    assert abs(halves[0].repeated - 8000) < 800


def test_few_rows_are_examples_of_a_finding_and_each_once() -> None:
    figures, rows = Figures(), [1, 1, 2, 3, 4]
    kept = [figures.example("msg.order", Example(Location("in.jsonl", row), f"{n}")) for n, row in enumerate(rows)]
    assert kept == [True, False, True, True, False]
    assert [each.detail for each in figures.examples["msg.order"]] == ["0", "2", "3"]


def test_figures_and_picked_rows_are_the_same_however_the_file_is_cut(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    texts = ["w" * (7 * number % 301) for number in range(400)]
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "a"}] for text in texts]
    lines = [json.dumps({"messages": each}) for each in turns]
    lines[50] = "{"
    source.write_text("\n".join(lines))
    found = []
    for cut in ({}, {"rows_per_shard": 37}):
        with Scratch() as scratch:
            [gathered] = gather(Recipe(source=str(source), template="chatml", **cut), scratch, 1, picks=True)
        shown = {(row.row, tuple(why)): (row.problem, row.spans) for row, why in gathered.rows}
        found.append((values([gathered.figures], None), gathered.figures.examples, shown))
    assert found[0] == found[1]
    picked = {why: [row for row, reasons in found[0][2] if why in reasons] for why in (*NUMBERS, "json.syntax")}
    assert picked["first"] == [number for number in range(61) if number != 50] and picked["json.syntax"] == [50]
    assert len(picked["longest"]) == 40 and min(len(texts[row]) for row in picked["longest"]) > 260
    assert len(picked["random"]) == 100
