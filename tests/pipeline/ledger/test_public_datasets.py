"""No text of a public dataset is lost in silence, and what is left behind is named, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import chatfmt
from chatfmt.errors import ChatfmtError

from ...conftest import SHARED, needs_shared
from ...silent_losses import ROWS, lost

SHARED_FILES = sorted(
    path
    for folder in ("data", "cases/data", "cases/features")
    for path in (SHARED / folder if SHARED else Path("none")).glob("*")
    if path.suffix in (".json", ".jsonl", ".parquet") and path.name != "MANIFEST.json"
)
INVALID = {"messages_toy_invalid.jsonl"}
"""Public datasets that are refused; any other converts, whatever its columns."""


@needs_shared
@pytest.mark.parametrize("source", SHARED_FILES, ids=lambda path: path.name)
def test_nothing_in_a_public_dataset_is_lost_in_silence(source, tmp_path):
    out, recipe = tmp_path / "out.jsonl", chatfmt.Recipe(source=str(source), limit=ROWS)
    try:
        summary = chatfmt.convert(recipe, out, executor="serial")
    except ChatfmtError:
        assert source.parent.name != "data" or source.parent.parent.name == "cases" or source.name in INVALID
        return  # refused: nothing is written
    assert lost(source, out.read_text(), summary, recipe) == set()
