"""Files that change between planning and reading, or while they are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from chatfmt.errors import InputError
from chatfmt.sources import file_identity, read
from chatfmt.sources.bytes.compression import content_hash

from .reading import pieces, written

LINES = b'{"a":"x"}\n' * 5000


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + LINES)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("change", [grown, cut])
@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.parquet"])
def test_a_file_that_changes_between_plan_and_read(change: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    content = {"x.json": b"[" + LINES.replace(b"\n", b",", 4999) + b"]", "x.csv": b"a,b\n" + b"x,y\n" * 5000}.get(
        name, LINES
    )
    path = Path(written(tmp_path, content, name))
    if name == "x.parquet":
        pq.write_table(pa.table({"a": [str(n) for n in range(5000)]}), path)
    for planned in (pieces(str(path)), pieces(str(path), rows_per_shard=1000)):
        before = path.read_bytes()
        change(path)
        with pytest.raises(InputError) as caught:
            list(read(planned[-1]))
        path.write_bytes(before)
        assert (caught.value.code, str(caught.value)) == ("file.changed", f"{path}: the file changed while it was read")


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = Path(written(tmp_path, LINES))
    (piece,) = pieces(str(path))
    batches = read(piece, batch_rows=100)
    next(batches)
    os.utime(path, (1, 1))
    with pytest.raises(InputError) as caught:
        list(batches)
    assert caught.value.code == "file.changed"


@pytest.mark.parametrize("change", [os.utime, lambda path: os.link(path, path.with_name("linked"))])
def test_a_file_that_is_only_touched_or_linked_has_not_changed(change: Callable[[Path], None], tmp_path: Path) -> None:
    path = Path(written(tmp_path, LINES))
    (piece,) = pieces(str(path))
    planned = replace(piece, content=content_hash(str(path)), identity=file_identity(str(path)))
    batches = read(planned, batch_rows=100)
    next(batches)
    change(path)
    assert sum(map(len, batches)) == 4900 and file_identity(str(path)) != planned.identity


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_a_deleted_file(name: str, tmp_path: Path) -> None:
    path = Path(written(tmp_path, LINES, name))
    if name == "x.parquet":
        pq.write_table(pa.table({"a": ["x"]}), path)
    (piece,) = pieces(str(path))
    path.unlink()
    with pytest.raises(InputError) as caught:
        list(read(piece))
    assert (caught.value.code, caught.value.message, caught.value.hint) == (
        "file.missing",
        f"no such file `{path}`",
        "it was there when it was looked for: restore it, then run again",
    )
