"""A shard appears complete or not at all, whatever fails."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from chatfmt.errors import Location, OutputError, RowError, UnknownName
from chatfmt.manifest import Reject
from chatfmt.writers import FORMATS, AtomicFile, RejectWriter, ShardWriter, durable

from .samples import SCHEMA, batch, listing


@pytest.mark.parametrize("format", FORMATS)
def test_a_shard_appears_at_the_end(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"x.{format}"
    with ShardWriter(path, format, SCHEMA) as writer:
        writer.write(batch())
        assert not path.exists()
        assert [name.startswith(".") for name in listing(tmp_path)] == [True]
    data = path.read_bytes()
    assert list(listing(tmp_path)) == [path.name]
    assert (writer.rows, writer.bytes, writer.sha256) == (8, len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("error", [RowError("bad", code="msg.role"), KeyboardInterrupt(), MemoryError()])
def test_a_failed_shard_leaves_nothing(tmp_path: Path, format: str, error: BaseException) -> None:
    (tmp_path / f"x.{format}").write_bytes(b"old")
    with pytest.raises(type(error)), ShardWriter(tmp_path / f"x.{format}", format, SCHEMA) as writer:
        writer.write(batch())
        raise error
    assert listing(tmp_path) == {f"x.{format}": b"old"}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "close"])
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EIO, "the disk reports an error"),
        (errno.EDQUOT, "the disk quota is used up"),
    ],
)
def test_a_disk_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, call: str, number: int, words: str
) -> None:
    def fail(*arguments: Any, **named: Any) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(OutputError) as caught, ShardWriter(tmp_path / f"x.{format}", format, SCHEMA) as writer:
        writer.write(batch())
        monkeypatch.setattr(os, call, fail)
        writer.write(batch())
    monkeypatch.undo()
    assert (caught.value.exit_code, caught.value.code) == (5, f"output.{errno.errorcode[number].lower()}")
    assert caught.value.message == f"cannot write `{tmp_path / f'x.{format}'}`: {words}"
    assert caught.value.hint
    assert listing(tmp_path) == {}


def test_a_failed_early_sync_is_reported_and_not_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    asked: list[int] = []
    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr(os, "fsync", asked.append)
    with pytest.raises(OutputError) as caught, AtomicFile(tmp_path / "x") as file:
        file.write(bytes(durable.EARLY_SYNC))
    assert caught.value.code == "output.eio" and caught.value.message.endswith(": the disk reports an error")
    assert (listing(tmp_path), asked) == ({}, [])


def test_without_a_thread_a_file_is_synced_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with AtomicFile(tmp_path / "x") as file:
        file.write(bytes(durable.EARLY_SYNC))
    assert listing(tmp_path) == {"x": bytes(durable.EARLY_SYNC)}


def test_most_of_a_file_is_synced_before_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: sizes.append(os.fstat(fd).st_size))
    with AtomicFile(tmp_path / "x") as file:
        for _ in range(8):
            file.write(bytes(durable.EARLY_SYNC // 2))
            file._file._join()
    assert sizes == [durable.EARLY_SYNC * part for part in (1, 2, 3, 4)]


def test_partial_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, bytes(data)[:7]))
    with AtomicFile(tmp_path / "x") as file:
        file.write(b"0123456789" * 10)
    monkeypatch.undo()
    assert (tmp_path / "x").read_bytes() == b"0123456789" * 10


def test_too_many_open_files_and_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        ShardWriter(tmp_path / "no" / "x.jsonl", "jsonl", SCHEMA)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a part of the path is a file, not a folder"):
        ShardWriter(tmp_path / "file" / "x.jsonl", "jsonl", SCHEMA)


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown format `parket`") as caught:
        ShardWriter(tmp_path / "x", "parket", SCHEMA)
    assert caught.value.hint == "did you mean `parquet`?"
    assert listing(tmp_path) == {}


def test_an_unknown_compression_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        ShardWriter(tmp_path / "x", "jsonl", SCHEMA, "zip")
    assert listing(tmp_path) == {}


def test_pages_damaged_while_writing_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, bytes(data).replace(b"plain", b"plaim")))
    with pytest.raises(OutputError) as caught, ShardWriter(tmp_path / "x.parquet", "parquet", SCHEMA, "none") as writer:
        writer.write(batch())
    assert caught.value.code == "output.readback"
    assert (
        caught.value.message
        == "`x.parquet` was damaged while it was written: the page at byte 4 differs from its checksum"
    )
    assert listing(tmp_path) == {}


def test_rejects_are_a_file_only_when_there_are_some(tmp_path: Path) -> None:
    with RejectWriter(tmp_path / "none.jsonl") as none:
        pass
    with RejectWriter(tmp_path / "one.jsonl") as one:
        one.write([Reject("msg.role", "role `robot`", Location("a.jsonl", 3))])
    data = b'{"v":1,"code":"msg.role","detail":"role `robot`","source":{"file":"a.jsonl","row":3},"raw":null}\n'
    assert listing(tmp_path) == {"one.jsonl": data}
    assert (none.bytes, none.sha256) == (0, "")
    assert (one.bytes, one.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_rejects_of_a_failed_shard_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RejectWriter(tmp_path / "one.jsonl") as writer:
        writer.write([Reject("a", "b", Location("a.jsonl"))])
        raise KeyboardInterrupt
    assert listing(tmp_path) == {}
