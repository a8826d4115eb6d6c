"""Formats: rows round-trip, and equal rows give equal bytes."""

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

from chatfmt import executors, json_columns, schema
from chatfmt.errors import OutputError, UnknownName
from chatfmt.writers import FORMATS, ShardWriter, parquet_schema
from chatfmt.writers.encoders import COMPRESSIONS

from .samples import SCHEMA, TEXTS, batch, objects_batch

OPEN = {
    "gz": gzip.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
    "zst": lambda data: zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(),
}


def encoded(format: str, batches: list[pa.RecordBatch], compression: str | None = None, **options: Any) -> bytes:
    sink = io.BytesIO()
    encoder = FORMATS[format](sink, batches[0].schema, compression, **options)
    for item in batches:
        encoder.write(item)
    encoder.close()
    assert not sink.closed
    return sink.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_batches_are_the_same_bytes(format: str) -> None:
    batches = [batch(0), batch(8, 100)]
    assert encoded(format, batches) == encoded(format, batches)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_lines_decompress_to_the_plain_lines_and_have_equal_bytes(compression: str) -> None:
    plain, packed = encoded("jsonl", [batch(), batch(8)]), encoded("jsonl", [batch(), batch(8)], compression)
    assert OPEN[compression](packed) == plain
    assert packed == encoded("jsonl", [batch(), batch(8)], compression)
    assert OPEN[compression](packed + packed) == plain + plain  # members may be joined


def test_gzip_has_no_name_and_no_time() -> None:
    assert encoded("jsonl", [batch()], "gz")[:10] == bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])


def parquet(data: bytes) -> pa.Table:
    return pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read()


def test_parquet_holds_the_rows_with_json_as_text_of_that_type() -> None:
    table = parquet(encoded("parquet", [batch(), batch(8)]))
    assert table.schema.equals(pa.schema([("text", pa.string()), ("tools", pa.json_()), ("n", pa.int64())]))
    assert json.loads(table.schema.metadata[b"huggingface"]) == {"info": {"features": {
        "text": {"dtype": "string", "_type": "Value"}, "tools": {"_type": "Json"},
        "n": {"dtype": "int64", "_type": "Value"},
    }}}  # fmt: skip
    assert table.to_pylist() == pa.Table.from_batches([batch(), batch(8)]).to_pylist()


def test_parquet_that_needs_no_features_has_none() -> None:
    """Features name `List`, which `datasets` before 4.0 does not know."""
    plain = pa.RecordBatch.from_pydict({"m": pa.array([[{"role": "user", "content": "a"}]])})
    assert parquet_schema(plain.schema).metadata is None


def test_parquet_pages_have_checksums() -> None:
    data = bytearray(encoded("parquet", [batch(0, 500)]))
    data[200] ^= 1
    with pytest.raises(OSError, match="CRC checksum verification failed"):
        parquet(bytes(data))


def test_parquet_drops_the_key_order_of_turns() -> None:
    rows = [
        {"messages": [{"content": "a", "role": "user"}, {"role": "x", "tool_calls": [{"n": None}], "content": None}]}
    ]
    source = objects_batch(rows)
    assert schema.KEYS in [field.name for field in source.schema.field("messages").type.value_type]
    table = parquet(encoded("parquet", [source]))
    assert table.to_pylist() == [{"messages": [
        {"content": "a", "role": "user", "tool_calls": None},
        {"content": None, "role": "x", "tool_calls": '[{"n":null}]'},
    ]}]  # fmt: skip


def test_parquet_fills_missing_columns_with_nulls() -> None:
    sparse = pa.record_batch({"n": pa.array([7])})
    table = parquet(encoded("parquet", [batch(0, 1), sparse]))
    assert table.to_pylist()[1] == {"text": None, "tools": None, "n": 7}


def test_parquet_stores_text_in_a_json_column() -> None:
    first = pa.record_batch({"x": pa.array(["[1]"], json_columns.JSON)})
    second = pa.record_batch({"x": pa.array(['say "hi"', None])})
    assert parquet(encoded("parquet", [first, second])).to_pylist() == [
        {"x": "[1]"},
        {"x": '"say \\"hi\\""'},
        {"x": None},
    ]


def test_parquet_stores_turns_in_a_json_column() -> None:
    first = pa.record_batch({"x": pa.array(['"t"'], json_columns.JSON)})
    second = objects_batch([{"x": [{"role": "user", "content": "é"}]}])
    assert parquet(encoded("parquet", [first, second])).to_pylist()[1] == {"x": '[{"role":"user","content":"é"}]'}


def test_parquet_stores_turns_with_fewer_keys_from_a_slice() -> None:
    wide = objects_batch([{"m": [{"role": "a", "content": "b", "name": "c"}]}])
    narrow = objects_batch([{"m": [{"role": str(place)}] * place} if place != 2 else {"m": None} for place in range(5)])
    table = parquet(encoded("parquet", [wide, narrow.slice(1, 3)]))
    assert [len(row["m"]) if row["m"] is not None else None for row in table.to_pylist()] == [1, 1, None, 3]
    assert table.to_pylist()[3]["m"][2] == {"role": "3", "content": None, "name": None}


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ({"n": [1], "more": ["x"]}, "a row has the column `more`, which is not in the output schema"),
        (
            {"text": pa.array(["[1]"], json_columns.JSON)},
            "a column is `string` in some rows and another JSON type in others",
        ),
    ],
)
def test_parquet_refuses_values_outside_its_schema(later: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputError) as caught:
        encoded("parquet", [batch(), pa.RecordBatch.from_pydict(later)])
    assert caught.value.message.startswith(message)
    assert caught.value.code == "output.schema"


def test_parquet_refuses_a_key_outside_its_schema() -> None:
    with pytest.raises(OutputError, match="a message has the key `name`"):
        encoded("parquet", [objects_batch([{"m": [{"role": "a"}]}]), objects_batch([{"m": [{"name": "a"}]}])])


def test_long_text_has_no_dictionary_and_no_statistics_and_roles_have_both() -> None:
    rows = objects_batch([{"text": "x", "source": "s", "messages": [{"role": "user", "content": "y"}]}] * 50)
    metadata = pq.ParquetFile(io.BytesIO(encoded("parquet", [rows]))).metadata.row_group(0)
    chunks = (metadata.column(place) for place in range(metadata.num_columns))
    found = {chunk.path_in_schema: (chunk.has_dictionary_page, chunk.is_stats_set) for chunk in chunks}
    both, neither = (True, True), (False, False)
    assert found == {
        "text": neither, "source": both, "messages.list.element.role": both, "messages.list.element.content": neither,
    }  # fmt: skip


def test_row_groups_are_limited_by_bytes_not_batches() -> None:
    big = pa.record_batch({"text": pa.array(["y" * 100_000] * 25)})  # 2.5 MB
    file = pq.ParquetFile(io.BytesIO(encoded("parquet", [big] * 15)))
    assert [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)] == [175, 175, 25]


def test_parquet_schema_of_nested_types() -> None:
    turns = pa.list_(pa.struct([("role", pa.string()), ("tool_calls", json_columns.JSON), (schema.KEYS, pa.string())]))
    found = parquet_schema(pa.schema([("m", turns), (schema.KEYS, pa.string()), ("n", pa.int8())]))
    wanted = pa.list_(pa.struct([("role", pa.string()), ("tool_calls", pa.json_())]))
    assert found == pa.schema([("m", wanted), ("n", pa.int8())])


def _write(task: tuple[str, str, str | None]) -> tuple[int, str]:
    path, format, compression = task
    with ShardWriter(Path(path), format, SCHEMA, compression) as writer:
        writer.write(batch(int(Path(path).name.split(".")[0]) * 8))
    return writer.rows, writer.sha256


@pytest.mark.parametrize("executor", [name for name in executors.EXECUTORS if name != "ray"])
@pytest.mark.parametrize(
    ("format", "compression"), [("jsonl", None), ("jsonl", "zst"), ("jsonl", "gz"), ("parquet", None)]
)
def test_same_bytes_whatever_the_executor(tmp_path: Path, executor: str, format: str, compression: str | None) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    tasks = {
        folder: [(str(tmp_path / folder / f"{number}.x"), format, compression) for number in range(5)]
        for folder in ("a", "b")
    }
    wanted = list(executors.serial(_write, tasks["a"], 1))
    assert list(executors.executor(executor).run(_write, tasks["b"], 3)) == wanted
    for number in range(5):
        assert (tmp_path / f"a/{number}.x").read_bytes() == (tmp_path / f"b/{number}.x").read_bytes()


def test_unknown_compressions() -> None:
    with pytest.raises(UnknownName, match="unknown compression `zip`"):
        encoded("jsonl", [batch()], "zip")


def test_texts_survive_both_formats() -> None:
    rows = pa.record_batch({"text": pa.array(TEXTS)})
    assert parquet(encoded("parquet", [rows]))["text"].to_pylist() == TEXTS
    assert [json.loads(line)["text"] for line in encoded("jsonl", [rows]).decode().split("\n")[:-1]] == TEXTS
