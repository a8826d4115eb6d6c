"""The two rows of a pair are far apart, however the input is cut, whoever converts it and however rows are chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatfmt.cli import main
from chatfmt.pipeline.conversion.output import blocks

from ....conftest import from_lines, run_cli, to_lines

BLOCK, SIZE = blocks.PAIRS, 8


def pairs(count: int) -> str:
    rows = [{"prompt": f"Q{n}", "chosen": f"good {n}", "rejected": f"bad {n}", "id": n} for n in range(count)]
    return to_lines(rows)


def expected(numbers: list[int], size: int = SIZE) -> list[tuple[int, bool]]:
    """The rows of each block, first the good answers; the last block holds up to twice as many."""
    starts = range(0, max(1, len(numbers) // size) * size, size)
    cuts = [*starts, len(numbers)]
    return [
        (n, good) for start, stop in zip(cuts, cuts[1:], strict=False) for good in (True, False)
        for n in numbers[start:stop]
    ]  # fmt: skip


def written(out: str) -> list[tuple[int, bool]]:
    rows = from_lines(out)
    for row in rows:
        (question,), (answer,) = row["prompt"], row["completion"]
        assert question["content"] == f"Q{row['id']}"
        assert answer["content"] == f"{'good' if row['label'] else 'bad'} {row['id']}"
    return [(row["id"], row["label"]) for row in rows]


def neighbours(rows: list[tuple[int, bool]], batch: int) -> int:
    """How many rows of a batch have the prompt of the row before them, the first that of the last row."""
    batches = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return sum(part[i][0] == part[i - 1][0] for part in batches if len(part) > 1 for i in range(len(part)))


TO = ("--to", "unpaired-preference", "--keep", "id", "-q", "--executor", "serial")


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that converts the lines of a file with flags, in blocks of eight pairs; returns the rows written."""
    monkeypatch.setattr(blocks, "PAIRS", SIZE)

    def run(lines: str, *flags: str, out: str = "") -> list[tuple[int, bool]]:
        (tmp_path / "in.jsonl").write_text(lines)
        folder = tmp_path / "out"
        target = ["-o", str(folder), "--format", "jsonl", "--overwrite"] if out else []
        assert main(["convert", str(tmp_path / "in.jsonl"), *TO, *target, *flags]) == 0
        printed = capsys.readouterr().out
        return written((folder / "data" / out).read_text() if out else printed)

    return run


def test_blocks_keep_the_rows_of_a_pair_apart(convert: Any) -> None:
    rows = convert(pairs(27))
    assert rows == expected(list(range(27)))
    assert [neighbours(rows, batch) for batch in range(2, SIZE + 1)] == [0] * (SIZE - 1)
    assert convert(pairs(27), "--rows-per-shard", "20", out="train-00001-of-00002.jsonl") == expected([*range(20, 27)])
    assert convert(pairs(3)) == expected([0, 1, 2])


def test_rows_that_are_chosen_afterwards_are_in_blocks_too(convert: Any) -> None:
    one = "train-00000-of-00001.jsonl"
    assert convert(pairs(27) + pairs(10), "--dedup", out=one) == expected(list(range(27)))
    for split in ("train", "test"):
        rows = convert(pairs(60), "--test-fraction", "0.5", out=one.replace("train", split))
        assert 20 < len(rows) // 2 < 40 and rows == expected([n for n, good in rows if good])


def test_rejected_rows_leave_no_gap(convert: Any) -> None:
    bad = pairs(27).splitlines(keepends=True)
    bad[7] = bad[15] = '{"prompt": "Q", "chosen": null, "rejected": "x"}\n'
    assert convert("".join(bad), "--on-error", "skip") == expected([n for n in range(27) if n not in (7, 15)])


def test_stdin_and_workers_write_the_same(tmp_path: Path) -> None:
    count = 2 * BLOCK + 50
    (tmp_path / "in.jsonl").write_text(pairs(count))
    piped = run_cli("convert", "-", *TO, stdin=pairs(count)).stdout
    run_cli("convert", tmp_path / "in.jsonl", *TO[:-2], "--workers", "2", "-o", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == piped
    assert written(piped.decode()) == expected(list(range(count)), BLOCK)


def test_labels_of_the_data_keep_their_order(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "completion": f"{n}", "label": n % 2 == 0} for n in range(5)]
    lines = to_lines(rows)
    made = run_cli("convert", "-", "--to", "unpaired-preference", "-q", stdin=lines).stdout
    assert [json.loads(line)["label"] for line in made.splitlines()] == [True, False, True, False, True]
