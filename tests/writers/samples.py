"""Batches as the pipeline makes them, and small conversions for the tests of writers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from chatfmt import json_columns
from chatfmt.errors import Location
from chatfmt.manifest import Manifest, RawRow, Reject, Shard
from chatfmt.writers import (
    OutputFolder,
    RejectWriter,
    ShardWriter,
    card,
    finished_shards,
    rejects_path,
    staged_path,
    write_receipt,
)

TEXTS = [
    "plain", "", 'quote " and \\ back', "line\nbreak\ttab\r\x00\x1f", "\u2028\u2029\x85\x7f", "é漢😀", ",", "a" * 5000,
]  # fmt: skip
SCHEMA = pa.schema([("text", pa.string()), ("tools", json_columns.JSON), ("n", pa.int64())])


def objects_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Return a batch of JSON objects, in the encoding of JSON sources."""
    return pa.RecordBatch.from_pydict(json_columns.encode_objects(rows))


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def batch(start: int = 0, rows: int = 8) -> pa.RecordBatch:
    """Return a batch of SCHEMA with nulls and JSON text."""
    texts = [f"{start + place} {TEXTS[(start + place) % len(TEXTS)]}" for place in range(rows)]
    tools = [None if place % 3 else dumps([{"name": f"f{place}", "x": None}]) for place in range(rows)]
    columns = [pa.array(texts), pa.array(tools, json_columns.JSON), pa.array(range(start, start + rows))]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def write_shard(
    state: Path, name: str, fingerprint: str, number: int, format: str, compression: str | None = None
) -> Shard:
    """Write a shard of 8 rows, two rejects for odd numbers, then the receipt, as a task does."""
    with (
        ShardWriter(staged_path(state, name), format, SCHEMA, compression) as writer,
        RejectWriter(rejects_path(state, name)) as rejects,
    ):
        writer.write(batch(number * 8))
        detail, raw = "role `robot` is not known", RawRow.of(b'{"a":\xff}')
        rejects.write([Reject("msg.role", detail, Location("in.jsonl", row), raw) for row in range(number % 2 * 2)])
    shard = Shard(
        name, name.split("/")[-1].split("-")[0], rows=8, rejected=number % 2 * 2, rows_in=8 + number % 2 * 2,
        bytes=writer.bytes, sha256=writer.sha256, reject_bytes=rejects.bytes, reject_sha256=rejects.sha256,
        inputs=(number,), counts={"merged_turns": number},
    )  # fmt: skip
    write_receipt(state, shard, fingerprint)
    return shard


def names(format: str = "parquet", compression: str | None = None, shards: int = 4) -> list[str]:
    """Return the names of `shards` train shards and one test shard."""
    ending = f"{format}.{compression}" if compression else format
    train = [f"data/train-{place:05d}-of-{shards:05d}.{ending}" for place in range(shards)]
    return [*train, f"data/test-00000-of-00001.{ending}"]


def convert(
    out: Path, *, fingerprint: str = "f1", format: str = "jsonl", compression: str | None = None, resume: bool = False,
    overwrite: bool = False, shards: int = 4,
) -> Manifest:  # fmt: skip
    """Run a conversion into a folder, as the pipeline does."""
    with OutputFolder.open(out, fingerprint, resume=resume, overwrite=overwrite) as folder:
        if folder.complete:
            return folder.complete
        done = finished_shards(folder.state, fingerprint) if resume else {}
        made = [
            done.get(name) or write_shard(folder.state, name, fingerprint, number, format, compression)
            for number, name in enumerate(names(format, compression, shards))
        ]
        manifest = Manifest(fingerprint, tuple(made), sources=({"id": "test"},), chatfmt="0.1.0")
        return folder.commit(manifest, card(manifest, SCHEMA))


def listing(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder; locks, which hold a process id, as empty."""
    files = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    return {path.relative_to(folder).as_posix(): b"" if path.name == "lock" else path.read_bytes() for path in files}
