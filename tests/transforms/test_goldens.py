"""Each transform on small drawn cases: `tests/goldens/transforms/*.txt` hold settings, rows, rows after, counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatfmt import transforms
from chatfmt.json_columns import dumps

from .conversations import to_batch, to_rows

GOLDENS = sorted((Path(__file__).parent.parent / "goldens" / "transforms").glob("*.txt"))


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_rows_and_counts_after(path: Path) -> None:
    head, before, after, counts = path.read_text(encoding="utf-8").split("\n---\n")
    batch, found = transforms.apply(to_batch([json.loads(line) for line in before.split("\n")]), json.loads(head))
    assert "\n".join(map(dumps, to_rows(batch))) == after
    assert dict(found) == json.loads(counts)


def test_every_value_of_every_transform_has_a_golden() -> None:
    assert GOLDENS
    shown = set()
    for path in GOLDENS:
        for name, value in json.loads(path.read_text(encoding="utf-8").split("\n---\n")[0]).items():
            shown.add((name, value if transforms.TRANSFORMS[name].kind == "choice" else None))
    wanted = {(name, None) for name, each in transforms.TRANSFORMS.items() if each.kind != "choice"}
    wanted |= {(name, value) for name, each in transforms.TRANSFORMS.items() for value in each.choices[1:]}
    assert shown >= wanted
