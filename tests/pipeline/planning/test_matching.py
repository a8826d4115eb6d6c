"""`--limit` and `--skip` with `--where`, as in SQL: they count the rows that the expression keeps."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chatfmt

from ...conftest import run_cli, run_here, succeed, to_lines, write_rows

KEPT = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
WHERE = f"n in {KEPT}"
ROWS = [{"prompt": f"q{n}", "completion": f"a{n}", "n": n} for n in range(40)]


def write(folder: Path, ending: str) -> Path:
    path = folder / f"in.{ending}"
    text = to_lines(ROWS)
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=6)
    elif ending == "csv":
        with path.open("w", newline="") as file:
            rows = csv.DictWriter(file, [*ROWS[0]])
            rows.writeheader()
            rows.writerows(ROWS)
    elif ending == "json":
        path.write_text(json.dumps(ROWS))
    else:
        path.write_bytes(gzip.compress(text.encode()) if ending == "jsonl.gz" else text.encode())
    return path


def numbers(path: Path) -> list[int]:
    return [int(json.loads(line)["n"]) for line in path.open()]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "csv", "parquet"])
def test_the_first_rows_that_match(ending, tmp_path):
    source, where = write(tmp_path, ending), f"n|int in {KEPT}" if ending == "csv" else WHERE
    for skip, limit in ((0, 1), (0, 4), (3, 4), (9, 5), (0, 10), (0, 11), (4, None)):
        recipe = chatfmt.Recipe(source=source, where=where, skip=skip, limit=limit, keep="n")
        chatfmt.convert(recipe, tmp_path / "out.jsonl", executor="serial", overwrite=True)
        assert numbers(tmp_path / "out.jsonl") == KEPT[skip:][:limit], (skip, limit)


def test_a_column_that_only_row_can_name(tmp_path):
    pq.write_table(pa.table({"prompt": ["a", "b"], "completion": ["c", "d"], "the n": [1, 2]}), tmp_path / "in.parquet")
    run = run_here("convert", tmp_path / "in.parquet", "--where", "row['the n'] > 1", "--limit", "1", "-q")
    assert [json.loads(line)["prompt"][0]["content"] for line in run.stdout.splitlines()] == ["b"]


def test_shards_and_workers_do_not_change_them(tmp_path):
    recipe = chatfmt.Recipe(source=write(tmp_path, "jsonl"), where=WHERE, skip=2, limit=6, keep="n", rows_per_shard=3)
    for executor, workers in (("serial", None), ("processes", 2)):
        chatfmt.convert(recipe, tmp_path / executor, executor=executor, workers=workers)
        shards = sorted((tmp_path / executor / "data").iterdir())
        assert len(shards) == 5  # rows 5 to 19 of the file
        assert [n for shard in shards for n in pq.read_table(shard)["n"].to_pylist()] == KEPT[2:8]


def test_a_pipe_stops_reading_at_the_last_of_them(tmp_path):
    rows = write(tmp_path, "jsonl").read_bytes()
    endless = rows + rows * 500 + b"broken\n"
    run = succeed(
        run_cli("convert", "-", "--where", WHERE, "--skip", "1", "--limit", "3", "--keep", "n", "-q", stdin=endless)
    )
    assert [json.loads(line)["n"] for line in run.stdout.splitlines()] == KEPT[1:4]


def test_files_before_and_rows_that_cannot_be_read_are_counted(tmp_path):
    lines = [json.dumps(row) + "\n" for row in ROWS]
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join([*lines[:4], "\n", "broken\n"]))
    (folder / "b.jsonl").write_text("".join(["broken\n", *lines[4:]]))
    for skip, limit, kept in ((0, 2, [2, 3]), (1, 2, [3, 5]), (2, 3, [5, 7, 11]), (9, 9, [29])):
        recipe = chatfmt.Recipe(
            source=folder, where=WHERE, skip=skip, limit=limit, keep="n", on_error="skip", max_bad="99%"
        )
        chatfmt.convert(recipe, tmp_path / "out.jsonl", overwrite=True)
        assert numbers(tmp_path / "out.jsonl") == kept


def test_rows_for_which_the_expression_fails_are_not_counted(tmp_path):
    source = tmp_path / "in.jsonl"
    rows = [{**row, "n": None if row["n"] == 1 else row["n"]} for row in ROWS]
    write_rows(source, rows)
    options = ("--where", "n > 2", "--limit", "2", "--keep", "n", "-q")
    run = run_here("convert", "in.jsonl", *options, cwd=tmp_path)
    assert (run.returncode, run.stdout) == (4, b"")
    assert run.stderr.decode().startswith("error: in.jsonl row 1: ")
    for source, data in (("in.jsonl", b""), ("-", source.read_bytes())):
        run = run_cli("convert", source, *options, "--on-error", "skip", "--max-bad", "99%", cwd=tmp_path, stdin=data)
        assert [json.loads(line)["n"] for line in run.stdout.splitlines()] == [3, 4]
    run = run_here("convert", "in.jsonl", "--where", "m > 2", "--limit", "2", cwd=tmp_path)
    assert run.stderr.decode().startswith("error: `m > 2` reads the column `m`, which is not in any sampled row\n")


def test_a_row_counts_if_one_of_its_exploded_rows_is_kept(tmp_path):
    rows = [{"qa": [{"q": f"q{n}", "a": f"a{n}", "good": good} for good in (False, n % 3 == 0)]} for n in range(9)]
    write_rows(tmp_path / "in.jsonl", rows)
    run = run_here(
        "convert", "in.jsonl", "--explode", "qa", "--where", "good", "--map", "user=q", "--map", "assistant=a",
        "--skip", "1", "--limit", "2", "-q", "--drop", "good", cwd=tmp_path,
    )  # fmt: skip
    assert [json.loads(line)["messages"][0]["content"] for line in run.stdout.splitlines()] == ["q3", "q6"], run.stderr


def test_what_looks_at_rows_shows_those_that_match(tmp_path):
    write(tmp_path, "jsonl")

    def told(command: str, *options: str) -> Any:
        run = succeed(run_here(command, "in.jsonl", "--where", WHERE, *options, cwd=tmp_path))
        return run.stdout.decode()

    shown = [json.loads(line)["record"]["n"] for line in told("preview", "-n", "2", "--json").splitlines()]
    assert shown == KEPT[:2]
    shown = [json.loads(line)["record"]["n"] for line in told("preview", "--sample", "20", "--json").splitlines()]
    assert shown == KEPT
    assert "filtered out: nothing is written for this row" in told("preview", "--row", "4").splitlines()
    found = json.loads(told("inspect", "--limit", "4", "--json"))
    assert found["roles"] == {"user": 4, "assistant": 4}
    assert json.loads(told("stats", "--limit", "4", "--json"))["values"]["conversations"] == 4
    assert json.loads(told("check", "--limit", "4", "--json"))["rows"] == KEPT[3] + 1


def test_nothing_that_matches(tmp_path):
    write(tmp_path, "jsonl")
    run = run_here("convert", "in.jsonl", "--where", "n > 99", "--limit", "2", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (0, b"")
    run = run_here("convert", "in.jsonl", "--where", WHERE, "--skip", "10", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode()) == (
        3, "error: in.jsonl: `--skip 10` skips all rows of `train` that --where keeps\nhint: skip fewer rows\n",
    )  # fmt: skip
    run = run_here("convert", "in.jsonl", "--where", WHERE, "--skip", "10", "--allow-empty", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"wrote 0 rows to stdout, 0 B\n")


def test_rows_that_explode_makes_do_not_count(tmp_path):
    row = {"qas": [{"question": f"q{n}", "answer": "a"} for n in range(3)]}
    (tmp_path / "in.jsonl").write_text(f"{json.dumps(row)}\n" * 3)
    run = run_cli("convert", "in.jsonl", "--explode", "qas", "--limit", "2", "-o", "out.jsonl", cwd=tmp_path)
    note, wrote = run.stderr.decode().splitlines()
    assert note == "note: `--limit 2` counts rows of the source, not those that `--explode qas` makes"
    assert wrote.startswith("wrote 6 rows to `out.jsonl`")


def test_the_hint_for_a_slice_selects_the_same_rows(tmp_path):
    write(tmp_path, "jsonl")
    asked, counted = ("in.jsonl", "--where", WHERE, "--split", "train[3:]", "--keep", "n"), ("--limit", "2")
    run = run_here("convert", *asked, *counted, cwd=tmp_path)
    assert (run.returncode, run.stderr.decode().splitlines()) == (
        2,
        [
            "error: `--limit` and `--skip` cannot be combined with a split that is a slice",
            "hint: convert the slice to a file, then that file with `--limit` or `--skip`",
        ],
    )
    run_here("convert", *asked, "-o", "slice.jsonl", cwd=tmp_path)
    run_here("convert", "slice.jsonl", *counted, "--keep", "n", "-o", "out.jsonl", cwd=tmp_path)
    assert numbers(tmp_path / "out.jsonl") == [3, 5]
