"""`--dry-run` says what a long conversion takes, from converting its first rows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chatfmt.cli import main
from chatfmt.pipeline.running import estimate

ROW = {"messages": [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}]}


@pytest.fixture(autouse=True)
def _every_conversion_is_long(monkeypatch, tmp_path):
    monkeypatch.setattr(estimate, "WORTHWHILE", 3)
    monkeypatch.chdir(tmp_path)


def planned(capsys, *arguments: str) -> dict[str, object]:
    assert main(["convert", *arguments, "-t", "chatml", "--dry-run", "--json", "--workers", "2"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("flags", [["-o", "out"], ["-o", "out.jsonl"], ["-o", "out", "--shards", "2", "--dedup"]])
def test_of_all_rows_it_is_the_truth(flags, capsys):
    Path("in.jsonl").write_text(f"{json.dumps(ROW)}\n" * 300)
    found = planned(capsys, "in.jsonl", *flags)["estimate"]
    assert main(["convert", "in.jsonl", *flags, "-t", "chatml", "-q"]) == 0
    (target,) = Path().glob("out*")
    written = sum(path.stat().st_size for path in ([target] if target.is_file() else target.glob("data/*")))
    assert {key: found[key] for key in ("rows", "measured", "tasks", "workers", "written")} == {
        "rows": 300, "measured": 300, "tasks": 1, "workers": 2, "written": written,
    }  # fmt: skip
    assert 0 <= found["elapsed"] <= found["seconds"] < 60
    assert 20e6 < found["memory"] < 4e9


def test_of_some_rows_it_grows_with_the_others(monkeypatch, capsys):
    monkeypatch.setattr(estimate, "MEASURED", 10)
    lines = f"{json.dumps(ROW)}\n"
    Path("in").mkdir()
    for name in ("a", "b"):
        Path(f"in/{name}.jsonl").write_text(lines * 20_000)
    found = planned(capsys, "in", "-o", "out.jsonl")["estimate"]
    text = {"text": "<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"}
    line = len(json.dumps(text, separators=(",", ":"))) + 1
    assert found["written"] == pytest.approx(40_000 * line, rel=0.1)  # rows are told from the size of the files
    assert found["measured"] < 20_000
    assert sorted(path.name for path in Path().iterdir()) == ["in"]


def test_what_other_programs_take_of_the_machine_does_not_count(monkeypatch, capsys):
    Path("in.jsonl").write_text(f"{json.dumps(ROW)}\n" * 30)
    monkeypatch.setattr(estimate, "perf_counter", iter([1.0, 101.0]).__next__)
    monkeypatch.setattr(estimate, "seconds_waited", iter([5.0, 95.0]).__next__)
    assert planned(capsys, "in.jsonl", "-o", "out")["estimate"]["seconds"] == 10
    monkeypatch.undo()
    assert estimate.seconds_waited() >= 0


def test_the_second_pass_of_rows_that_are_reordered_is_part_of_it(monkeypatch, capsys):
    Path("in.jsonl").write_text(f"{json.dumps(ROW)}\n" * 30)
    clock = [0.0]
    monkeypatch.setattr(estimate, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(estimate, "seconds_waited", lambda: 0.0)
    gather = estimate.run_gather_task

    def slowly(task):
        clock[0] += 3
        return gather(task)

    monkeypatch.setattr(estimate, "run_gather_task", slowly)
    assert planned(capsys, "in.jsonl", "-o", "out")["estimate"]["seconds"] == 0
    assert planned(capsys, "in.jsonl", "-o", "out", "--shuffle", "--shards", "2")["estimate"]["seconds"] == 6


def test_it_is_one_line(capsys):
    Path("in.jsonl").write_text(f"{json.dumps(ROW)}\n" * 30)
    assert main(["convert", "in.jsonl", "-t", "chatml", "-o", "out", "--dry-run", "--workers", "2"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("estimated")]
    assert re.fullmatch(
        r"estimated from 30 rows: 0:00:0\d with 2 workers, 0:00:0\d with one; \d+ B written, "
        r"\d+\.\d [MG]B of memory per worker", line,
    )  # fmt: skip


def test_none_of_short_conversions_and_of_rows_that_cannot_be_counted_or_converted(monkeypatch, capsys):
    import gzip

    good = f"{json.dumps(ROW)}\n"
    Path("bad.jsonl").write_text(good * 5 + '{"messages": [{"role": "no such role", "content": "x"}]}\n' + good * 5)
    Path("in.jsonl.gz").write_bytes(gzip.compress((good * 300).encode()))
    assert planned(capsys, "bad.jsonl", "-o", "out")["estimate"] is None
    assert planned(capsys, "bad.jsonl", "-o", "out", "--on-error", "skip")["estimate"] is not None
    assert planned(capsys, "in.jsonl.gz", "-o", "out")["estimate"] is None
    monkeypatch.setattr(estimate, "WORTHWHILE", 50_000)
    Path("in.jsonl").write_text(good * 300)
    assert planned(capsys, "in.jsonl", "-o", "out")["estimate"] is None
