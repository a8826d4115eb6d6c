"""Every shared data file has its rows, and they are those of the exact reader."""

from __future__ import annotations

import json

import pytest

from chatfmt.sources import plan_splits, read, resolve

from ..conftest import SHARED, needs_shared
from .reading import numbers_of, read_all


@needs_shared
def test_all_shared_files_have_the_rows_that_the_readme_counts() -> None:
    import re

    assert SHARED is not None
    table = (SHARED / "data" / "README.md").read_text(encoding="utf-8")
    counts = {found[1]: int(found[2]) for found in re.finditer(r"^\| `([^`]+)` \|[^|]*\|[^|]*\| (\d+) \|", table, re.M)}
    assert len(counts) >= 39
    for name, count in counts.items():
        source = resolve(str(SHARED / "data" / name))
        for plan in ({}, {"rows_per_shard": max(1, count // 3)}, {"shard_bytes": 100_000}):
            got = [n for shard in plan_splits(source, **plan) for piece in shard for n in numbers_of(read(piece))]
            assert got == list(range(count)), (name, plan)


@needs_shared
@pytest.mark.parametrize(
    "name", ["gsm8k_test.jsonl", "messages_swe.jsonl", "oasst_trees.jsonl", "preference_sharegpt.json"]
)
def test_shared_json_is_read_as_by_the_slow_reader(name: str) -> None:
    assert SHARED is not None
    path = SHARED / "data" / name
    text = path.read_bytes()
    want = (
        json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.split(b"\n") if line.strip()]
    )
    assert repr(read_all(str(path))) == repr(want)
