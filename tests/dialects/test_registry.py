"""The registry of dialects: its order, and a new entry works everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

import chatfmt
from chatfmt import dialects
from chatfmt.dialects import DIALECTS, Columns, Dialect, detect
from chatfmt.dialects.kit.columns import SourceRow
from chatfmt.dialects.kit.output import convert_rows
from chatfmt.errors import UnknownName
from chatfmt.pipeline.inspection.inspect import inspect_source
from chatfmt.sources import resolve

from ..conftest import write_rows
from .batches import to_batch

ORDER = """
segments stepwise oasst-trees oasst-rows arena ultrainteract hh llamafactory rejected-response positive-negative
preference compared scored bfcl atif agent-data openhands gemini-cli xlam glaive chatgpt-export gemini
anthropic responses hermes toolace traces messages
sharegpt speakers pair-turns string-turns parallel-lists user-turns conversational answered-turns multiple-choice squad
reasoning unpaired-preference alpaca dolly prompt-completion prompt-only transcript text rated-rows react tail-calls
reasoning-tags mixed
"""


def test_dialects_are_tried_in_this_order() -> None:
    assert list(DIALECTS) == ORDER.split()


def test_ranks_are_distinct_and_opt_in_dialects_come_last() -> None:
    ranks = [dialect.rank for dialect in DIALECTS.values()]
    assert len(set(ranks)) == len(ranks)
    assert [dialect.opt_in for dialect in DIALECTS.values()] == [rank >= 500 for rank in ranks]


def to_haiku(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    def read(record: SourceRow, columns: Columns) -> dict[str, object]:
        return {
            "messages": [{"role": "assistant", "content": "\n".join(record[columns.path("lines") or "haiku"].values())}]
        }

    return convert_rows(batch, columns, read)


def haiku_parts(record: SourceRow, columns: Columns) -> dict[str, str] | None:
    path = columns.path("lines") or "haiku"
    lines = record.get(path)
    return {"lines": path} if isinstance(lines, dict) and len(lines) == 3 else None


HAIKU = Dialect(to_haiku, haiku_parts, "poems of three lines", rank=395, parts=frozenset({"lines"}))
ROWS = [{"haiku": {"a": "x", "b": "y", "c": "z"}, "poet": {"born": 1644}}] * 2


def test_a_new_entry_works_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "poems.jsonl"
    write_rows(source, ROWS)
    monkeypatch.setitem(DIALECTS, "haiku", HAIKU)

    found = detect([to_batch(ROWS)], Columns())
    assert (found.dialect, found.used, found.unused) == ("haiku", ("haiku",), ("poet",))
    assert found.reason == "poems of three lines; lines: `haiku` (checked 2 rows)"
    assert "lines" in dialects.known_parts()
    with pytest.raises(UnknownName) as caught:
        detect([to_batch(ROWS)], Columns(), "haikus")
    assert caught.value.hint == "did you mean `haiku`?"

    recipe = chatfmt.Recipe(source=str(source))
    inspected = inspect_source(recipe, resolve(str(source)), [to_batch(ROWS)])
    assert inspected.detection and inspected.detection["dialect"] == "haiku"
    assert "--map" not in inspected.command
    for name in ("auto", "haiku"):
        out = tmp_path / f"{name}.jsonl"
        chatfmt.convert(chatfmt.Recipe(source=str(source), dialect=name), out=out, executor="serial")
        turns = [json.loads(line)["messages"] for line in out.read_text().splitlines()]
        assert turns == [[{"role": "assistant", "content": "x\ny\nz"}]] * 2
