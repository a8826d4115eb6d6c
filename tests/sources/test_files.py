"""Compressed files, columnar types, folders and their splits, stdin, samples and fingerprints."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard

from chatfmt.errors import InputError, RowError, UnknownName, UsageError
from chatfmt.json_columns import JSON
from chatfmt.sources import ParseOptions, Source, fingerprint, plan_splits, read, read_stream, resolve, sample

from ..conftest import SHARED, needs_shared, run_cli
from .reading import numbers_of, read_all, rows_of, written

LINES = b"".join(b'{"a": "%d %s"}\n' % (n, b"xyz"[n % 3 : n % 3 + 1] * (n % 50)) for n in range(3000))
PACKED = {
    "gz": gzip.compress(LINES), "zst": zstandard.ZstdCompressor(write_checksum=True).compress(LINES),
    "bz2": bz2.compress(LINES), "xz": lzma.compress(LINES),
}  # fmt: skip


@pytest.mark.parametrize("kind", PACKED)
def test_truncated_and_damaged_compressed_data(kind: str, tmp_path: Path) -> None:
    whole = PACKED[kind]
    assert len(read_all(written(tmp_path, whole, f"x.jsonl.{kind}"))) == 3000
    assert len(read_all(written(tmp_path, whole * 3, f"x.jsonl.{kind}"))) == 9000
    for stop in (len(whole) - 1, len(whole) - 4, len(whole) // 2, 100):
        with pytest.raises(InputError) as cut:
            read_all(written(tmp_path, whole[:stop], f"x.jsonl.{kind}"))
        assert (cut.value.code, cut.value.message) == ("file.truncated", f"the {kind} data is truncated")
    for behind in (
        b"x",
        b"\0x",
        *([b"\0" * 64] if kind != "xz" else [b"\0", b"\0" * 63, b"\0" * 30_001]),
        b'{"a": 1}\n',
        whole[:20],
    ):
        with pytest.raises(InputError) as more:
            read_all(written(tmp_path, whole + behind, f"x.jsonl.{kind}"))
        assert more.value.code in ("file.compressed", "file.truncated")
    for place in range(20, len(whole), len(whole) // 30):
        damaged = whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]
        with pytest.raises((InputError, RowError)):
            read_all(written(tmp_path, damaged, f"x.jsonl.{kind}"))


def test_batches_of_compressed_rows_are_as_large_as_of_plain_rows(tmp_path: Path) -> None:
    lines = b"".join(b'{"a": "%s"}\n' % os.urandom(5000).hex().encode() for _ in range(700))
    packed = {
        "gz": gzip.compress(lines, 1), "zst": zstandard.compress(lines), "bz2": bz2.compress(lines, 1),
        "xz": lzma.compress(lines, preset=0),
    }  # fmt: skip
    assert packed.keys() == PACKED.keys()
    expected = sizes(written(tmp_path, lines, "x.jsonl"))
    assert len(expected) > 1 and sum(expected) == 700
    for kind, data in packed.items():
        assert sizes(written(tmp_path, data, f"x.jsonl.{kind}")) == expected, kind


def sizes(path: str) -> list[int]:
    """The rows of each batch of a file that is one piece."""
    ((piece,),) = plan_splits(resolve(path))
    return [len(batch) for batch in read(piece)]


MOST_MEMORY = """
import re, sys
from chatfmt.sources import plan_splits, read, resolve

def read_all(path):
    ((piece,),) = plan_splits(resolve(path))
    return sum(len(batch) for batch in read(piece, batch_rows=100))

def most():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) >> 10

read_all(sys.argv[1])
before = most()
print(read_all(sys.argv[2]), most() - before)
"""
"""Reads a small file, then another; prints the rows of that and how many more megabytes it took."""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_row_group_as_large_as_the_file_is_not_read_whole(tmp_path: Path) -> None:
    rows, megabytes = [os.urandom(1 << 12).hex() for _ in range(12_800)], 100
    for name, some in (("small", rows[:1]), ("large", rows)):
        pq.write_table(pa.table({"text": some}), tmp_path / name, use_dictionary=False, write_batch_size=100)
    assert pq.read_metadata(tmp_path / "large").num_row_groups == 1
    command = [sys.executable, "-c", MOST_MEMORY, tmp_path / "small", tmp_path / "large"]
    count, more = map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())
    assert count == len(rows) and more < megabytes * 2 // 3


def test_xz_streams_are_padded_by_fours(tmp_path: Path) -> None:
    whole = PACKED["xz"]
    for zeros in (4, 64, 8 << 10, 30_000):
        padded = whole + b"\0" * zeros
        assert len(read_all(written(tmp_path, padded * 2, "x.jsonl.xz"))) == 6000
        for wrong in (padded + b"\0", whole + b"\0" * (zeros - 1) + whole):
            with pytest.raises(InputError) as caught:
                read_all(written(tmp_path, wrong, "x.jsonl.xz"))
            assert caught.value.message == "damaged xz data: other data follows its end"


def test_byte_offsets_are_of_the_file_or_absent(tmp_path: Path) -> None:
    csv, hint = (
        "user,assistant\né,yo\nétwo\n",
        "hint: name the encoding that the file was written in with `--encoding`\n",
    )
    (tmp_path / "in.csv").write_bytes(csv.encode("latin-1"))
    for source, given in (("in.csv", b""), ("-", csv.encode("latin-1"))):
        run = run_cli("convert", source, "--encoding", "latin-1", cwd=tmp_path, stdin=given)
        line = run.stderr.decode().splitlines()[0]
        assert line == f"error: {source} row 1: the record has 1 field, the header has 2 (line 3)"
    skip = ("--on-error", "skip", "--max-bad", "90%", "--rejects", "bad.jsonl")
    run_cli("convert", "in.csv", "--encoding", "latin-1", *skip, cwd=tmp_path)
    assert json.loads((tmp_path / "bad.jsonl").read_text())["source"] == {"file": "in.csv", "row": 1, "line": 3}
    (tmp_path / "in.csv").write_bytes(csv.encode("utf-16")[:-1])
    run = run_cli("convert", "in.csv", "--encoding", "utf-16", cwd=tmp_path)
    at = len(csv.encode("utf-16")) - 2
    assert run.stderr.decode() == f"error: in.csv: not utf-16: truncated data (byte {at})\n{hint}"


def test_a_decompression_bomb(tmp_path: Path) -> None:
    bomb = zstandard.compress(b'{"a": "' + b"0" * (300 << 20) + b'"}\n')
    assert len(bomb) < 100_000
    with pytest.raises(InputError) as caught:
        read_all(written(tmp_path, bomb, "x.jsonl.zst"))
    assert caught.value.message == "unpacks to more than 1000 times its size"


def as_parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


TURNS = [[{"role": "user", "content": "x"}], None, [], [{"role": "assistant", "content": None}]]


@pytest.mark.parametrize(
    "text", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
@pytest.mark.parametrize("list_", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view])
def test_text_and_list_types_are_normalised(text: pa.DataType, list_: Any, tmp_path: Path) -> None:
    turns = list_(pa.struct([("role", text), ("content", text)]))
    plain = pa.schema(
        [("m", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))), ("t", pa.string())]
    )
    rows = pa.Table.from_pydict({"m": TURNS, "t": ["a", None, "", "d"]}, plain)
    spelled = pa.Table.from_pydict({"m": pa.array(TURNS, turns), "t": pa.array(["a", None, "", "d"], text)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, spelled.schema) as writer:
        writer.write_table(spelled)
    ((piece,),) = plan_splits(resolve(written(tmp_path, sink.getvalue(), "x.arrow")))
    (batch,) = read(piece)
    assert batch.schema.types[1:] == plain.types
    assert batch.drop_columns(["#row"]).to_pylist() == rows.to_pylist()


def test_types_of_parquet(tmp_path: Path) -> None:
    table = pa.table({
        "j": pa.array(['{"a":1}', None], pa.json_()), "n": pa.nulls(2), "i": pa.array([1, 2], pa.int8()),
        "l": pa.array([["1"], ["2"]], pa.list_(pa.string(), 1)),
    })  # fmt: skip
    ((piece,),) = plan_splits(resolve(written(tmp_path, as_parquet(table), "x.parquet")))
    (batch,) = read(piece)
    assert [(field.name, field.type) for field in batch.schema] == [
        ("#row", pa.int64()), ("j", JSON), ("n", pa.string()), ("i", pa.int8()), ("l", pa.list_(pa.string())),
    ]  # fmt: skip


def test_damaged_and_odd_parquet(tmp_path: Path) -> None:
    table = pa.table({"a": [f"text {n} " * 5 for n in range(500)]})
    whole = as_parquet(table, write_page_checksum=True, compression="none", use_dictionary=False)
    rows = table.to_pylist()
    assert read_all(written(tmp_path, whole, "x.parquet")) == rows
    for place in range(40, len(whole), len(whole) // 40):
        damaged = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        path = written(tmp_path, damaged, "x.parquet")
        try:
            assert read_all(path) == rows
        except InputError as error:
            assert error.at.file == path and error.code in ("file.damaged", "file.checksum")
    with pytest.raises(InputError):
        read_all(written(tmp_path, whole[: len(whole) // 2], "x.parquet"))
    twice = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
    with pytest.raises(InputError) as caught:
        read_all(written(tmp_path, as_parquet(twice), "x.parquet"))
    assert caught.value.message == "two columns are named `a`"


@pytest.mark.parametrize(("length", "rows", "most"), [(1 << 20, 400, 63), (8 << 20, 20, 7), (10, 5000, 5000)])
def test_a_dictionary_of_long_values_is_read_in_small_batches(
    tmp_path: Path, length: int, rows: int, most: int
) -> None:
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * length]))
    bomb = as_parquet(pa.table({"a": repeated}), compression="zstd")
    assert len(bomb) < 20_000
    ((piece,),) = plan_splits(resolve(written(tmp_path, bomb, "x.parquet")))
    sizes: list[int] = []
    for batch in read(piece, batch_rows=5000):
        sizes.append(batch.num_rows)
        assert batch["a"][0].as_py() == batch["a"][-1].as_py() == "x" * length
        if sum(sizes) >= 3 * most:
            break
    assert max(sizes) == most


def splits_of(source: Source) -> dict[str, list[str]]:
    return {split: [file.shown for file in files] for split, files in source.splits.items()}


ROW = b'{"a": 1}\n'
FOLDERS: dict[str, tuple[list[str], dict[str, list[str]]]] = {
    "any names": (["b.jsonl", "a.jsonl", "c/d.jsonl"], {"train": ["a.jsonl", "b.jsonl", "c/d.jsonl"]}),
    "hidden": (["a.jsonl", ".b.jsonl", "_c.jsonl", ".d/e.jsonl", "_f/g.jsonl", "x.txt"], {"train": ["a.jsonl"]}),
    "names": (
        ["my-train.jsonl", "my_dev.jsonl", "eval.jsonl", "latest.jsonl"],
        {"train": ["my-train.jsonl"], "validation": ["my_dev.jsonl"], "test": ["eval.jsonl"]},
    ),
    "folders": (
        ["test/a.jsonl", "training/b.jsonl", "train.jsonl"],
        {"train": ["training/b.jsonl"], "test": ["test/a.jsonl"]},
    ),
    "shards": (
        ["data/sft-00001-of-00002.jsonl", "data/sft-00000-of-00002.jsonl", "data/test-00000-of-00001.jsonl", "x.jsonl"],
        {
            "test": ["data/test-00000-of-00001.jsonl"],
            "sft": ["data/sft-00000-of-00002.jsonl", "data/sft-00001-of-00002.jsonl"],
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_are_read_as_datasets_reads_them(name: str, tmp_path: Path) -> None:
    files, splits = FOLDERS[name]
    for file in files:
        written(tmp_path, ROW, file)
    found = splits_of(resolve(str(tmp_path)))
    assert found == splits and list(found) == list(splits)


CARD = b"""---
license: mit
configs:
- config_name: one
  data_files:
  - {split: train, path: a/*.jsonl}
  - {split: extra, path: [b.jsonl, c.jsonl]}
- config_name: two
  data_files: c.jsonl
- config_name: out
  data_files: ../secret.jsonl
- config_name: linked
  data_files: link.jsonl
---
"""


def test_the_card_selects_files_inside_the_folder_only(tmp_path: Path) -> None:
    for file in ("d/a/1.jsonl", "d/a/2.jsonl", "d/b.jsonl", "d/c.jsonl", "secret.jsonl"):
        written(tmp_path, ROW, file)
    written(tmp_path, CARD, "d/README.md")
    (tmp_path / "d/link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    folder = str(tmp_path / "d")
    one = resolve(folder, name="one")
    assert splits_of(one) == {"train": ["a/1.jsonl", "a/2.jsonl"], "extra": ["b.jsonl", "c.jsonl"]}
    assert (one.subset, one.licence) == ("one", "mit")
    assert splits_of(resolve(folder, name="one", split="extra[:1]")) == {"extra": ["b.jsonl", "c.jsonl"]}
    assert splits_of(resolve(folder, name="two")) == {"train": ["c.jsonl"]}
    assert splits_of(resolve(folder, data_files=["test=a/*.jsonl", "b.jsonl"])) == {
        "test": ["a/1.jsonl", "a/2.jsonl"], "train": ["b.jsonl"],
    }  # fmt: skip
    assert splits_of(resolve(folder, data_dir="a")) == {"train": ["a/1.jsonl", "a/2.jsonl"]}
    for outside in ({"name": "out"}, {"name": "linked"}, {"data_dir": ".."}, {"data_files": ["../*.jsonl"]}):
        with pytest.raises(InputError) as caught:
            resolve(folder, **outside)
        assert caught.value.code == "file.outside"
    with pytest.raises(UnknownName):
        resolve(folder, name="tow")
    with pytest.raises(UsageError) as which:
        resolve(folder)
    assert which.value.message == "there are several subsets: `one`, `two`, `out`, `linked`"


def test_folders_of_save_to_disk(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"text": f"{n}", "messages": [{"role": "user", "content": "x"}]} for n in range(20)]
    saved = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(rows), "dev": datasets.Dataset.from_list(rows[:3])}
    )
    saved.save_to_disk(str(tmp_path / "dict"), num_shards={"train": 2, "dev": 1})
    source = resolve(str(tmp_path / "dict"))
    assert {split: len(files) for split, files in source.splits.items()} == {"train": 2, "dev": 1}
    got = [row for s in plan_splits(source, "all", rows_per_shard=7) for p in s for row in rows_of(read(p))]
    assert got == rows + rows[:3]
    assert read_all(str(tmp_path / "dict" / "dev")) == rows[:3]


def test_missing_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source, said in {
        "nothing.jsonl": "no such file `nothing.jsonl`", "data/train.parquet": "no such file `data/train.parquet`",
        "./x": "no such file `./x`", "/a/b": "no such file `/a/b`", "a/b/c": "no such file `a/b/c`",
        "*.jsonl": "no file matches `*.jsonl`", "x.jsonl.gz": "no such file `x.jsonl.gz`",
    }.items():  # fmt: skip
        with pytest.raises(InputError) as caught:
            resolve(source)
        assert (caught.value.message, caught.value.code) == (said, "file.missing")
    (tmp_path / "gsm8k").mkdir()
    with pytest.raises(InputError) as empty:
        resolve("gsm8k")
    assert empty.value.message == "no data files in `gsm8k`"
    written(tmp_path, ROW, "gsm8k/x.jsonl")
    assert splits_of(resolve("gsm8k")) == {"train": ["x.jsonl"]}
    assert splits_of(resolve("gsm8k/*.jsonl")) == {"train": ["gsm8k/x.jsonl"]}
    assert resolve("-").kind == "stdin"


def test_urls_go_through_fsspec() -> None:
    import fsspec

    with fsspec.open("memory://chatfmt/d/x.jsonl", "wb") as file:
        file.write(LINES)
    with fsspec.open("memory://chatfmt/d/y.parquet", "wb") as file:
        file.write(as_parquet(pa.table({"a": ["x", "y"]})))
    assert len(read_all("memory://chatfmt/d/x.jsonl", rows_per_shard=1000)) == 3000
    assert read_all("memory://chatfmt/d/*.parquet") == [{"a": "x"}, {"a": "y"}]
    with fsspec.open("memory://chatfmt/d/test.jsonl", "wb") as file:
        file.write(ROW)
    assert splits_of(resolve("memory://chatfmt/d")) == {"test": ["memory:///chatfmt/d/test.jsonl"]}
    with fsspec.open("memory://chatfmt/d/train.jsonl", "wb") as file:
        file.write(LINES)
    assert read_all("memory://chatfmt/d") == read_all("memory://chatfmt/d/train.jsonl")
    assert splits_of(resolve("memory://chatfmt/d", split="test")) == {"test": ["memory:///chatfmt/d/test.jsonl"]}
    with pytest.raises(InputError) as caught:
        resolve("memory://chatfmt/z.jsonl")
    assert caught.value.message == "no such file `memory://chatfmt/z.jsonl`"


FIELDS: dict[str, tuple[Any, list[Any]]] = {
    "data": ({"v": 1, "data": [{"a": 1}, {"a": 2}]}, [{"a": 1}, {"a": 2}]),
    "data[].p[].q[]": (
        {"data": [{"p": [{"q": [{"a": 1}]}, {"q": []}]}, {"p": [{"q": [{"a": 2}]}]}]},
        [{"a": 1}, {"a": 2}],
    ),
    "values(.)": ({"x": {"a": 1}, "y": {"a": 2}}, [{"a": 1}, {"a": 2}]),
    "values(d.e)": ({"d": {"e": {"x": {"a": 1}}}}, [{"a": 1}]),
    "one": ({"one": {"a": 1}}, [{"a": 1}]),
}  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("indent", [None, 2])
def test_fields_of_a_document(field: str, indent: int | None, tmp_path: Path) -> None:
    document, rows = FIELDS[field]
    path = written(tmp_path, json.dumps(document, indent=indent).encode(), "x.json")
    assert read_all(path, ParseOptions(field=field)) == rows
    with pytest.raises(InputError) as caught:
        read_all(path, ParseOptions(field="no.such"))
    assert caught.value.message == "`--field no.such`: no `no` there"


def test_a_document_without_a_field_suggests_one(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        resolve(written(tmp_path, json.dumps({"v": "1", "data": [{"a": 1}]}, indent=1).encode(), "x.json"))
    assert (caught.value.code, caught.value.hint) == (
        "json.document",
        "`--field data`, or `--field .` for one record",
    )


def test_every_format_through_stdin() -> None:
    table = pa.table({"a": ["x", "y"]})
    rows = [{"a": "x"}, {"a": "y"}]
    kinds = [
        b'{"a":"x"}\n{"a":"y"}\n', b'[{"a":"x"},\n{"a":"y"}]', b'a,b\nx,1\ny,2\n', as_parquet(table),
        gzip.compress(b'{"a":"x"}\n{"a":"y"}'), zstandard.compress(as_parquet(table)),
    ]  # fmt: skip
    for content in kinds:
        got = rows_of(read_stream(io.BytesIO(content)))
        assert [{"a": row["a"]} for row in got] == rows, content
    with pytest.raises(InputError) as caught:
        list(read_stream(io.BytesIO(b"")))
    assert caught.value.message == "the input is empty"
    with pytest.raises(RowError) as bad:
        list(read_stream(io.BytesIO(b'{"a":"x"}\n{"a":}\n')))
    assert str(bad.value) == "- row 1: not JSON: expected a value (line 2, byte 15)"


def test_stdin_yields_rows_before_it_ends() -> None:
    code = (
        "import sys\nfrom chatfmt.sources import read_stream\n"
        "for batch in read_stream(sys.stdin.buffer): print(batch.num_rows, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        os.write(process.stdin.fileno(), b'{"a":1}\n{"a":2}\n')
        assert process.stdout.readline() == b"2\n"
        os.write(process.stdin.fileno(), b'{"a":3}\n')
        assert process.stdout.readline() == b"1\n"
        process.stdin.close()
    assert process.returncode == 0


def test_samples_and_fingerprints(tmp_path: Path) -> None:
    for name in "abcdef":
        written(tmp_path, LINES, f"d/{name}.jsonl")
    source = resolve(str(tmp_path / "d"))
    batches = sample(source, rows=100)
    assert sum(batch.num_rows for batch in batches) == 100
    assert numbers_of(batches)[:25] == list(range(25))
    ((name, size, digest), *_) = fingerprint(source.splits["train"])
    assert (name, size, len(digest)) == ("a.jsonl", len(LINES), 32)
    written(tmp_path, LINES[:-2] + b"\n\n", "d/a.jsonl")
    with pytest.raises(InputError, match=r"a\.jsonl: the file changed while it was read"):
        fingerprint(source.splits["train"])
    assert fingerprint(resolve(str(tmp_path / "d")).splits["train"])[0][2] != digest


def test_fingerprints_are_in_the_order_of_the_files(tmp_path: Path) -> None:
    contents = {
        f"{place:02}.jsonl": b'{"text":"%d"}\n' % place * (5000 if place % 3 == 0 else 1) for place in range(20)
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    found = fingerprint(resolve(str(tmp_path)).splits["train"])
    assert [(Path(name).name, size, digest) for name, size, digest in found] == [
        (name, len(content), xxhash.xxh3_128_hexdigest(content)) for name, content in contents.items()
    ]


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


def test_a_missing_file_suggests_similar_names(tmp_path: Path) -> None:
    (tmp_path / "talks.jsonl").write_bytes(b"{}\n")
    (tmp_path / "talks.json").symlink_to("nowhere")
    hints = {"talk.jsonl": f"did you mean `{tmp_path / 'talks.jsonl'}`?", "zzz": "", "talks.jsonl/x.jsonl": ""}
    hints |= {"no/x.jsonl": f"the folder `{tmp_path / 'no'}` does not exist either"}
    for name, hint in hints.items():
        with pytest.raises(InputError) as caught:
            resolve(str(tmp_path / name))
        assert caught.value.hint == hint, name


def test_files_without_a_split_are_noted(tmp_path: Path) -> None:
    for name in ("train.jsonl", "test.jsonl"):
        written(tmp_path, b'{"a": "x"}\n', name)
    assert resolve(str(tmp_path)).notes == ()
    written(tmp_path, b'{"a": "x"}\n', "more.jsonl")
    said = f"skipped 1 data file of `{tmp_path}` without a split (`more.jsonl`); name them with --data-files"
    assert resolve(str(tmp_path)).notes == (said,)
    written(tmp_path, b'{"a": "x"}\n', "deep/some.csv")
    said = f"skipped 2 data files of `{tmp_path}` without a split (`deep/some.csv` …); name them with --data-files"
    assert resolve(str(tmp_path)).notes == (said,)
    assert resolve(str(tmp_path), data_files=["*.jsonl"]).notes == ()


def test_concatenated_values_suggest_json_lines(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{\n "a": 1\n}\n{\n "a": 2\n}\n')
    run = run_cli("inspect", "in.json", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode().splitlines()) == (
        3,
        [
            "error: in.json: extra data after the value (line 4, byte 12)",
            "hint: write one value per line: jq -c . in.json > lines.jsonl",
        ],
    )


def test_a_compressed_pipe_yields_rows_at_once() -> None:
    out, into = os.pipe()
    packer = zlib.compressobj(wbits=31)
    with os.fdopen(out, "rb") as stream, os.fdopen(into, "wb", 0) as pipe:
        batches = read_stream(stream)
        for number in range(3):
            pipe.write(packer.compress(b'{"a": %d}\n' % number) + packer.flush(zlib.Z_SYNC_FLUSH))
            assert numbers_of([next(batches)]) == [number]
        pipe.write(packer.flush())
        pipe.close()
        assert list(batches) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only there can a pipe be made to hold more")
def test_a_pipe_holds_many_rows_while_others_are_converted() -> None:
    out, into = os.pipe()
    os.set_blocking(into, False)
    with os.fdopen(out, "rb") as stream:
        batches = read_stream(stream)
        os.write(into, b'{"a": "x"}\n')
        assert len(next(batches)) == 1
        lines = b'{"a": "%s"}\n' % (b"x" * 990) * 500
        assert os.write(into, lines) == len(lines)
        os.close(into)
        assert [len(batch) for batch in batches] == [500]


def test_a_glob_that_matches_a_pipe_with_a_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    os.mkfifo(tmp_path / "b.jsonl")
    done = run_cli("convert", "*.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout.decode()) == (3, "")
    assert done.stderr.decode() == (
        "error: `b.jsonl` is not a regular file\n"
        "hint: a file is read more than once: pipe rows in instead, `… | chatfmt convert -`\n"
    )
