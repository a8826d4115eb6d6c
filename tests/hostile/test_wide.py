"""Rows with very many keys, and rows that have few keys in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt.json_columns import decode_objects
from chatfmt.schema import ROW
from chatfmt.sources.json import record_batch
from tests.conftest import run_cli, run_process, succeed


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def own_keys(number: int, count: int) -> dict[str, Any]:
    return {f"k{number}_{index}": index for index in range(count)}


def test_rows_with_few_keys_in_common_become_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_batch, "_CELLS", 1000)
    rows = [{"text": "a", **own_keys(number, 5)} for number in range(100)]
    batches = record_batch.to_batches(rows, range(100))
    assert len(batches) == 8
    assert max((batch.num_columns - 1) * batch.num_rows for batch in batches) <= 1000
    assert [number for batch in batches for number in batch.column(ROW).to_pylist()] == [*range(100)]
    assert [row for batch in batches for row in decode_objects(columns_of(batch))] == rows


def columns_of(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    return {name: batch.column(name) for name in batch.schema.names if name != ROW}


def test_a_row_whose_turns_have_too_many_keys_is_one_bad_row(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    wide = [{**turn, **own_keys(number, 2)} for number, turn in enumerate(talk * 450)]
    source = tmp_path / "rows.jsonl"
    source.write_text(lines([{"messages": talk}, {"messages": wide}, {"messages": talk}]))
    done = run_cli("convert", source.name, "-o", "out.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout.decode()) == (4, "")
    assert done.stderr.decode() == (
        "error: rows.jsonl row 1: 900 objects have 1,802 different keys, too many for columns (line 2, byte 88)\n"
        "hint: keep what they hold as a list of keys and values; "
        "`--on-error skip` leaves out such rows, and --rejects FILE keeps them\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    succeed(run_cli("convert", source.name, "-o", "out.jsonl", "--on-error", "skip", "--max-bad", "1", cwd=tmp_path))
    assert (tmp_path / "out.jsonl").read_text() == lines([{"messages": talk}] * 2).replace(": ", ":").replace(", ", ",")


def test_an_error_names_the_first_of_many_columns_that_look_like_parts() -> None:
    texts = {f"system_prompt_{number}": f"You are helper {number} of many helpers." for number in range(40)}
    row = {"prompt": "a question of some words", "completion": "an answer of some words", **texts}
    done = run_cli("convert", "-", stdin=lines([row] * 3))
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b" looks like a system message") == 10
    assert b", 30 more look like parts too, and would be left behind\n" in done.stderr


@pytest.mark.skipif("not config.getoption('--full')")
@pytest.mark.parametrize("command", [["convert"], ["check"], ["stats"], ["inspect"], ["convert", "--keep", "all"]])
@pytest.mark.parametrize(
    "shape", ["wide.jsonl", "wide.csv", "wide.parquet", "different.jsonl", "turns.jsonl", "dots.jsonl"]
)
def test_many_keys_take_time_in_proportion(tmp_path: Path, shape: str, command: list[str]) -> None:
    """Each took minutes, or more, when the time grew with the square of the number of keys."""
    source = tmp_path / shape
    wide = {"prompt": "a", "completion": "b", **own_keys(0, 20_000)}
    if shape == "wide.jsonl":
        source.write_text(lines([wide] * 2))
    elif shape == "wide.csv":
        source.write_text(f"{','.join(wide)}\n{','.join(map(str, wide.values()))}\n")
    elif shape == "wide.parquet":
        pq.write_table(pa.table({name: [value] for name, value in wide.items()}), source)
    elif shape == "different.jsonl":
        source.write_text(lines([{"prompt": "a", "completion": "b", **own_keys(row, 20)} for row in range(1000)]))
    elif shape == "dots.jsonl":
        source.write_text(
            lines([{"prompt": "a", "completion": "b", "." * 200_000: "text", "meta": {"." * 200_000: 1}}])
        )
    else:
        answer = {"role": "assistant", "content": "b"}
        turns = [{"role": "user", "content": "a", **own_keys(row, 20)} for row in range(300)]
        source.write_text(lines([{"messages": [turn, answer]} for turn in turns]))
    succeed(run_process(*command, source))


def test_more_columns_than_a_row_may_have_are_an_error(tmp_path: Path) -> None:
    """A million of them took minutes, and the memory of the machine."""
    most = "more than the 100,000 that a row may have"
    talk = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    keys = own_keys(0, 100_001)
    (tmp_path / "wide.jsonl").write_text(lines([talk, {**talk, **keys}, talk]))
    (tmp_path / "wide.csv").write_text(f"{','.join(keys)}\n{','.join('a' * len(keys))}\n")
    table = pa.table([pa.array([1])] * len(keys), names=[*keys])
    with pa.ipc.new_file(tmp_path / "wide.arrow", table.schema) as file:
        file.write_table(table)
    says = {
        "wide.jsonl": f" row 1: the record has 100,002 keys, {most} (line 2, byte 88)",
        "wide.csv": f": the file has 100,001 columns, {most} (line 1, byte 0)",
        "wide.arrow": f": the file has 100,001 columns, {most}",
    }
    for name, text in says.items():
        done = run_cli("convert", name, "-o", "out.jsonl", cwd=tmp_path)
        assert done.returncode == (4 if name == "wide.jsonl" else 3)
        assert done.stderr.decode().splitlines()[0] == f"error: {name}{text}"
    done = run_cli("convert", "wide.jsonl", "-o", "out.jsonl", "--on-error", "skip", "--max-bad", "1", cwd=tmp_path)
    assert (done.returncode, len((tmp_path / "out.jsonl").read_text().splitlines())) == (0, 2)
