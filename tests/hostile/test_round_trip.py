"""A conversion from JSON Lines to JSON Lines keeps arbitrary rows exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chatfmt

from .oracle import exact

number = st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
text = st.text() | st.sampled_from(
    ["", " ", "null", "None", "007", "1e5", "2024-01-02", "[1]", "\x00", "\u2028", "\ufeff", "{{ x }}"]
)
value = st.recursive(
    st.none() | st.booleans() | number | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
name = st.text(max_size=4).map(lambda end: "x" + end)  # no name that is part of a conversation
turn = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": text}) | st.builds(
    lambda own, more: {**own, **more},
    st.fixed_dictionaries({"role": st.just("user"), "content": text}),
    st.dictionaries(name, value, max_size=3),
)
row = st.builds(
    lambda turns, more: {"messages": turns, **more},
    st.lists(turn, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(["a", "b", "c"]) | name, value, max_size=5),
)
FORMS = [{"ensure_ascii": True}, {"ensure_ascii": False}, {"separators": (",", ":")}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("round-trip")


@settings(suppress_health_check=list(HealthCheck))
@given(rows=st.lists(row, min_size=1, max_size=6), form=st.sampled_from(FORMS), cut=st.none() | st.integers(1, 3))
def test_any_rows_come_out_as_they_went_in(
    rows: list[Any], form: dict[str, Any], cut: int | None, folder: Path
) -> None:
    lines = [json.dumps(item, **form).encode() for item in rows]
    source, out = folder / "in.jsonl", folder / "out.jsonl"
    source.write_bytes(b"\n".join(lines) + b"\n")
    recipe = chatfmt.Recipe(source=str(source), keep=["all"], rows_per_shard=cut)
    summary = chatfmt.convert(recipe, out, executor="serial", overwrite=True)
    assert (summary.rows_in, summary.rows) == (len(rows), len(rows))
    assert [exact(line) for line in out.read_bytes().split(b"\n")[:-1]] == [exact(line) for line in lines]
