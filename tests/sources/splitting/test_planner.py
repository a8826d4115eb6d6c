"""Planning shards: every record once, in order, for any sizes, and the same rows from every format."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.errors import InputError, UnknownName, UsageError
from chatfmt.sources import ParseOptions, plan_splits, read, resolve, sample, unpack_source
from chatfmt.sources.bytes.compression import CHUNK
from chatfmt.sources.discovery.split_slices import parse_slices, select_slices
from chatfmt.sources.splitting.planner import Planner

from ..reading import numbers_of, read_all, rows_of, written

ROWS: list[dict[str, Any]] = [{"text": f'row {n}\n  é\u2028日 "{"x" * (n % 7)}"', "id": str(n)} for n in range(50)]


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    lines = [delimiter.join(rows[0])] + [delimiter.join(map(quoted, row.values())) for row in rows]
    return "".join(line + "\r\n" for line in lines).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=7)
    return sink.getvalue()


def as_arrow(rows: list[dict[str, Any]], stream: bool) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=9)
    return sink.getvalue()


FORMS = {
    "x.jsonl": as_jsonl(ROWS),
    "crlf.jsonl": as_jsonl(ROWS).replace(b"\n", b"\r\n"),
    "bom.jsonl": b"\xef\xbb\xbf" + as_jsonl(ROWS),
    "blank lines.jsonl": b"\n \n" + as_jsonl(ROWS).replace(b"\n", b"\n\n \t\r\n") + b"\n\n",
    "no end.jsonl": as_jsonl(ROWS)[:-1],
    "x.json": json.dumps(ROWS).encode(),
    "pretty.json": json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "lines.json": as_jsonl(ROWS),
    "array.jsonl": json.dumps(ROWS).encode(),
    "x.csv": as_csv(ROWS),
    "bom.csv": b"\xef\xbb\xbf" + as_csv(ROWS),
    "x.tsv": as_csv(ROWS, "\t"),
    "x.parquet": as_parquet(ROWS),
    "parquet.json": as_parquet(ROWS),
    "x.arrow": as_arrow(ROWS, False),
    "stream.arrow": as_arrow(ROWS, True),
    "x.jsonl.gz": gzip.compress(as_jsonl(ROWS[:20])) + gzip.compress(as_jsonl(ROWS[20:])),
    "x.jsonl.zst": zstandard.compress(as_jsonl(ROWS[:20])) + zstandard.compress(as_jsonl(ROWS[20:])),
    "x.json.bz2": bz2.compress(json.dumps(ROWS).encode()),
    "x.csv.xz": lzma.compress(as_csv(ROWS)),
    "gzip.jsonl": gzip.compress(as_jsonl(ROWS)),
}
assert len(FORMS) > 20


@pytest.mark.parametrize("name", FORMS)
def test_every_format_gives_the_same_rows_for_any_shard_size(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, FORMS[name], name)
    assert read_all(path) == ROWS
    for plan in ({"rows_per_shard": 1}, {"rows_per_shard": 7}, {"rows_per_shard": 50}, {"shard_bytes": 300}):
        shards = plan_splits(resolve(path), **plan)
        assert [row for shard in shards for piece in shard for row in rows_of(read(piece, batch_rows=3))] == ROWS
        assert [n for shard in shards for piece in shard for n in numbers_of(read(piece))] == list(range(50))
        if size := plan.get("rows_per_shard"):
            counts = [sum(piece.rows or 0 for piece in shard) for shard in shards]
            assert counts == [min(size, 50 - start) for start in range(0, 50, size)]
    part = plan_splits(resolve(path), "train[13:31]", rows_per_shard=5)
    assert [row for shard in part for piece in shard for row in rows_of(read(piece))] == ROWS[13:31]
    assert [piece.first_row for shard in part for piece in shard] == [13, 18, 23, 28]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("batch", [{"batch_rows": 1}, {"batch_bytes": 1}, {"batch_rows": 4, "batch_bytes": 200}, {}])
def test_batch_sizes_do_not_change_rows(name: str, batch: dict[str, int], tmp_path: Path) -> None:
    ((piece,),) = plan_splits(resolve(written(tmp_path, FORMS[name], name)))
    batches = list(read(piece, **batch))
    assert rows_of(batches) == ROWS and numbers_of(batches) == list(range(50))
    assert rows_of(read(piece, columns=["id"])) == [{"id": row["id"]} for row in ROWS]


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.json.bz2", "x.csv.xz", "x.jsonl.zst"])
def test_unpacked_files_have_the_same_rows(name: str, tmp_path: Path) -> None:
    source = resolve(written(tmp_path, FORMS[name], name))
    (tmp_path / "spool").mkdir()
    plain = unpack_source(source, tmp_path / "spool")
    assert [(file.shown, file.compression) for file in plain.splits["train"]] == [(str(tmp_path / name), None)]
    shards = plan_splits(plain, rows_per_shard=8)
    assert [row for shard in shards for piece in shard for row in rows_of(read(piece))] == ROWS


def test_a_field_is_unpacked_as_lines(tmp_path: Path) -> None:
    options = ParseOptions(field="data")
    source = resolve(written(tmp_path, json.dumps({"data": ROWS}).encode(), "x.json"), options=options)
    (tmp_path / "spool").mkdir()
    plain = unpack_source(source, tmp_path / "spool")
    assert [row for s in plan_splits(plain, rows_per_shard=9) for p in s for row in rows_of(read(p))] == ROWS
    assert [row for s in plan_splits(source, rows_per_shard=9) for p in s for row in rows_of(read(p))] == ROWS


@pytest.mark.parametrize("name", ["big.jsonl", "big.json", "big.csv"])
def test_big_files_are_cut_at_records(name: str, tmp_path: Path) -> None:
    rows = [{"a": f"{n}", "b": f"{'x' * 60},\u2028\n" * (n % 300)} for n in range(1100)]
    raw = {"big.jsonl": as_jsonl, "big.csv": as_csv}.get(name, lambda all: json.dumps(all).encode())(rows)
    assert len(raw) > 2 * CHUNK
    shards = plan_splits(resolve(written(tmp_path, raw, name)), shard_bytes=2 << 20)
    assert len(shards) >= 3
    batches = [batch for shard in shards for piece in shard for batch in read(piece)]
    assert rows_of(batches) == rows
    assert numbers_of(batches) == list(range(1100))
    for shard in shards:
        for piece in shard:
            cut = raw[piece.piece.start : piece.piece.stop] if hasattr(piece.piece, "start") else raw
            assert piece.piece.line == raw[: piece.piece.start].count(b"\n") + 1 and len(cut) > 0


def test_small_files_share_a_shard_and_splits_do_not(tmp_path: Path) -> None:
    for number in range(10):
        written(tmp_path, as_jsonl(ROWS[number * 4 : number * 4 + 4]), f"d/data/train-{number:05d}-of-00010.jsonl")
    written(tmp_path, as_jsonl(ROWS[40:]), "d/data/test-00000-of-00001.jsonl")
    source = resolve(str(tmp_path / "d"))
    shards = plan_splits(source, "all", shard_bytes=len(as_jsonl(ROWS[:40])) // 3)
    assert [{piece.split for piece in shard} for shard in shards] == [{"train"}] * 4 + [{"test"}] * 1
    assert [row for shard in shards for piece in shard for row in rows_of(read(piece))] == ROWS
    cut = plan_splits(source, "train", rows_per_shard=9)
    assert [sum(piece.rows or 0 for piece in shard) for shard in cut] == [9, 9, 9, 9, 4]
    assert [row for shard in cut for piece in shard for row in rows_of(read(piece))] == ROWS[:40]
    assert sum(batch.num_rows for batch in sample(source, "train", 6)) == 6


SLICES = {
    "train": (0, 50), "train[:10]": (0, 10), "train[10:]": (10, 50), "train[-5:]": (45, 50), "train[:-45]": (0, 5),
    "train[10%:20%]": (5, 10), "train[:33%]": (0, 16), "train[-10%:]": (45, 50), "train[5:999]": (5, 50),
    "train[:]": (0, 50),
    "train[1_0:2_0]": (10, 20), "train[:1%](closest)": (0, 0), "train[:3%](closest)": (0, 2),
}  # fmt: skip


@pytest.mark.parametrize("text", SLICES)
def test_slices(text: str) -> None:
    (part,) = parse_slices(text)
    assert part.bounds(50) == SLICES[text]


@given(
    rows=st.integers(0, 3000), percent=st.booleans(), first=st.none() | st.integers(-100, 100),
    stop=st.none() | st.integers(-100, 100), rounding=st.sampled_from(["closest", "pct1_dropremainder"]),
)  # fmt: skip
def test_slices_are_those_of_datasets(
    rows: int, percent: bool, first: int | None, stop: int | None, rounding: str
) -> None:
    from datasets import ReadInstruction

    sign = "%" if percent else ""
    ends = ("" if end is None else f"{end}{sign}" for end in (first, stop))
    text = f"train[{':'.join(ends)}]" + (f"({rounding})" if percent else "")
    (part,) = parse_slices(text)
    try:
        (want,) = ReadInstruction.from_spec(text).to_absolute({"train": rows})
    except (ValueError, AssertionError) as error:
        if "less than 100" in str(error) and part.percent:
            with pytest.raises(UsageError):
                part.bounds(rows)
        return
    first_row, stop_row = want.from_, want.to
    assert part.bounds(rows) == (first_row, max(first_row, stop_row))


def test_unknown_splits() -> None:
    with pytest.raises(UnknownName) as caught:
        select_slices("tset[:3]", ["train", "test"])
    assert (str(caught.value), caught.value.hint) == (
        "unknown split `tset`",
        "did you mean `test`? There are: train, test",
    )
    with pytest.raises(UsageError) as other:
        select_slices(None, ["a", "b"])
    assert (str(other.value), other.value.hint) == (
        "there is no split `train`, but `a`, `b`",
        "name one with `--split`, or `--split all`",
    )
    with pytest.raises(UsageError) as third:
        select_slices("train[5", ["train"])
    assert str(third.value) == "invalid `--split train[5`"


def test_differing_schemas_are_reported_before_the_first_row(tmp_path: Path) -> None:
    written(tmp_path, as_parquet([{"a": "x", "b": "y"}]), "d/a.parquet")
    written(tmp_path, as_parquet([{"b": "x", "a": "y"}]), "d/b.parquet")
    assert read_all(str(tmp_path / "d")) == [{"a": "x", "b": "y"}, {"b": "x", "a": "y"}]
    written(tmp_path, as_parquet([{"a": 1, "c": "y"}]), "d/c.parquet")
    with pytest.raises(InputError) as caught:
        plan_splits(resolve(str(tmp_path / "d")))
    assert (caught.value.code, str(caught.value)) == (
        "file.schema",
        "c.parquet: columns differ from `a.parquet`: `a` is int64 here, string there, "
        "`b` is missing here, string there, `c` is string here, missing there",
    )


@pytest.mark.parametrize("limit", [200, 500, 1000, 3000, 100_000])
def test_several_usual_shards_are_a_multiple_of_four_none_larger_than_the_limit(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("chatfmt.sources.splitting.planner.SHARD_BYTES", limit)
    raw = as_jsonl(ROWS)
    size = Planner(resolve(written(tmp_path, raw))).default_shard_bytes(select_slices(None, ["train"])[0])
    shards = -(-len(raw) // size)
    assert size <= limit and (shards == 1 if len(raw) <= limit else shards % 4 == 0), (size, len(raw))


def test_files_of_about_the_size_of_a_shard_are_the_shards_and_are_not_counted(tmp_path, monkeypatch):
    raw = as_jsonl(ROWS)
    for name in "abcd":
        (tmp_path / f"train-{name}.jsonl").write_bytes(raw)
    monkeypatch.setattr("chatfmt.sources.splitting.planner.SHARD_BYTES", len(raw) * 3 // 2)
    monkeypatch.setattr("chatfmt.sources.splitting.planner._COUNTED", len(raw))
    shards = plan_splits(resolve(str(tmp_path)))
    assert [[(Path(piece.uri).stem, piece.rows) for piece in shard] for shard in shards] == [
        [(f"train-{name}", None)] for name in "abcd"
    ]


@pytest.mark.parametrize("name", ["in.jsonl", "in.json", "in.csv", "in.parquet"])
def test_rows_are_counted_where_that_is_cheap(tmp_path, monkeypatch, name):
    """Small text that is not compressed; Parquet of any size, whose footer says it."""
    makers = {".jsonl": as_jsonl, ".json": json.dumps, ".csv": as_csv, ".parquet": as_parquet}
    made = makers[Path(name).suffix](ROWS)
    raw = made.encode() if isinstance(made, str) else made
    source = resolve(written(tmp_path, raw, name))
    assert [[piece.rows for piece in shard] for shard in plan_splits(source)] == [[len(ROWS)]]
    monkeypatch.setattr("chatfmt.sources.splitting.planner._COUNTED", 0)
    counted = len(ROWS) if name == "in.parquet" else None
    assert [[piece.rows for piece in shard] for shard in plan_splits(source)] == [[counted]]
    assert sum(len(batch) for shard in plan_splits(source) for piece in shard for batch in read(piece)) == len(ROWS)


def test_a_file_that_cannot_be_counted_is_still_planned(tmp_path):
    source = resolve(written(tmp_path, as_jsonl(ROWS)[:-1] + b"\n[{", "in.json"))
    packed = resolve(written(tmp_path, gzip.compress(as_jsonl(ROWS)), "in.jsonl.gz"))
    assert [[piece.rows for piece in shard] for shard in plan_splits(source)] == [[len(ROWS) + 1]]
    assert [[piece.rows for piece in shard] for shard in plan_splits(packed)] == [[None]]
