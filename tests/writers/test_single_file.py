"""A single output file, staged beside its path."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from chatfmt.errors import OutputError
from chatfmt.manifest import Shard
from chatfmt.writers import ShardWriter, SingleFile, finished_shards, staged_path

from .samples import SCHEMA, batch, listing, write_shard

FORMATS = [("jsonl", None), ("jsonl", "gz"), ("jsonl", "zst"), ("parquet", None)]


def convert(path: Path, format: str = "jsonl", compression: str | None = None, **options: bool) -> Shard:
    with SingleFile.open(path, "f1", **options) as single:
        done = finished_shards(single.state, "f1")
        names = [f"data/{number:05d}" for number in range(4)]
        shards = [
            done.get(name) or write_shard(single.state, name, "f1", number, format, compression)
            for number, name in enumerate(names)
        ]
        return single.commit(shards, format, compression)


def whole(tmp_path: Path, format: str, compression: str | None) -> bytes:
    """Return the same rows written by one writer."""
    with ShardWriter(tmp_path / "whole", format, SCHEMA, compression) as writer:
        for number in range(4):
            writer.write(batch(number * 8))
    return (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize(("format", "compression"), FORMATS)
def test_one_file_and_nothing_beside_it(tmp_path: Path, format: str, compression: str | None) -> None:
    (tmp_path / "out").mkdir()
    shard = convert(tmp_path / "out/x", format, compression)
    found = listing(tmp_path / "out")
    assert list(found) == ["x"]
    assert (shard.name, shard.rows, shard.bytes) == ("x", 32, len(found["x"]))
    plain = whole(tmp_path, format, None)
    if format == "parquet":
        both = [
            pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read() for data in (found["x"], plain)
        ]
        assert both[0].equals(both[1])
    elif compression == "gz":
        assert gzip.decompress(found["x"]) == plain
    elif compression is None:
        assert found["x"] == plain


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    for options in ({}, {"resume": True}):
        with pytest.raises(OutputError) as caught:
            SingleFile.open(tmp_path / "x", "f1", **options)
        assert caught.value.message == f"`{tmp_path / 'x'}` already exists"
        assert caught.value.hint == "replace it with `--overwrite`, or choose another name with `--out`"
    assert listing(tmp_path) == {"x": b"old"}


def test_the_old_file_stays_until_the_commit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    with SingleFile.open(tmp_path / "x", "f1", overwrite=True) as single:
        shard = write_shard(single.state, "data/0", "f1", 0, "jsonl")
        assert (tmp_path / "x").read_bytes() == b"old"
        single.commit([shard], "jsonl")
    assert list(listing(tmp_path)) == ["x"]
    assert (tmp_path / "x").read_bytes() != b"old"


def test_an_interrupted_file_is_resumed(tmp_path: Path) -> None:
    with SingleFile.open(tmp_path / "x", "f1") as single:
        write_shard(single.state, "data/00000", "f1", 0, "jsonl")
    for run, options, code in [
        ("f1", {}, "output.exists"), ("f2", {}, "output.fingerprint"), ("f2", {"resume": True}, "output.fingerprint")
    ]:  # fmt: skip
        with pytest.raises(OutputError) as caught:
            SingleFile.open(tmp_path / "x", run, **options)
        assert caught.value.code == code
    staged = staged_path(tmp_path / ".x.chatfmt", "data/00000")
    inode = staged.stat().st_ino
    with SingleFile.open(tmp_path / "x", "f1", resume=True) as single:
        assert list(finished_shards(single.state, "f1")) == ["data/00000"]
        assert staged.stat().st_ino == inode
    convert(tmp_path / "x", resume=True)
    assert listing(tmp_path) == {"x": whole(tmp_path.parent, "jsonl", None)}


def test_a_failed_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), SingleFile.open(tmp_path / "x", "f1"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/x").write_bytes(b"old")
    (tmp_path / "x").symlink_to(tmp_path / "real/x")
    convert(tmp_path / "x", overwrite=True)
    assert (tmp_path / "x").is_symlink()
    assert (tmp_path / "real/x").read_bytes() == whole(tmp_path, "jsonl", None)


def test_paths_that_cannot_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        SingleFile.open(tmp_path, "f1")
    with pytest.raises(OutputError, match=r"the folder `.*no` does not exist"):
        SingleFile.open(tmp_path / "no/x", "f1")


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with SingleFile.open(tmp_path / "x", "f1"), pytest.raises(OutputError) as caught:
        SingleFile.open(tmp_path / "x", "f1", resume=True)
    assert caught.value.code == "output.locked"
