"""Output folders: refusals, resumed runs, commits, and files that are never touched."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from chatfmt.errors import InputError, Location, OutputError
from chatfmt.manifest import Manifest, Reject, Shard, read_manifest, verify
from chatfmt.writers import (
    FORMATS,
    OutputFolder,
    RejectWriter,
    durable,
    finished_shards,
    rejects_path,
    staged_path,
    staging,
    write_rejects,
)

from .samples import convert, listing, names, write_shard

STATE = {".chatfmt/lock", ".chatfmt/manifest.json", ".chatfmt/rejects.jsonl"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_finished_folder(tmp_path: Path, format: str) -> None:
    out = tmp_path / "deep" / "out"
    manifest = convert(out, format=format)
    assert set(listing(out)) == {"README.md", *names(format), *STATE}
    assert read_manifest(out) == manifest
    assert verify(out) == []
    assert manifest.totals == {
        "rows_in": 44, "rows": 40, "rejected": 4, "filtered": 0, "duplicates": 0, "added": 0, "merged": 0,
        "bytes": sum(len(data) for name, data in listing(out).items() if name.startswith("data/")),
        "counts.merged_turns": 10,
    }  # fmt: skip
    rejects = (out / ".chatfmt/rejects.jsonl").read_text().splitlines()
    assert [Reject.from_json(line).source.row for line in rejects] == [0, 1, 0, 1]
    assert manifest.rejects["rows"] == 4


@pytest.mark.parametrize("fails", [False, True])
def test_the_rejects_of_one_shard_are_copied_only_where_they_cannot_have_two_names(
    tmp_path: Path, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(old: Path, new: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if fails:
        monkeypatch.setattr(os, "link", link)
    path, out = rejects_path(tmp_path, "data/a.jsonl"), tmp_path / "out.jsonl"
    path.parent.mkdir(parents=True)
    with RejectWriter(path) as writer:
        writer.write([Reject("msg.role", "unknown role `robot`", Location("a.jsonl", 3))])
    shard = Shard("data/a.jsonl", rejected=1, reject_bytes=writer.bytes, reject_sha256=writer.sha256)
    for _ in range(2):  # the second time the file has that name already
        assert write_rejects(tmp_path, [shard], out) == (writer.bytes, writer.sha256)
        assert out.samefile(path) is not fails and out.read_bytes() == path.read_bytes()
        assert [*tmp_path.glob("*.jsonl"), *tmp_path.glob(".*")] == [out]


def refused(out: Path, *, fingerprint: str = "f1", **options: bool) -> OutputError:
    before = listing(out)
    with pytest.raises(OutputError) as caught:
        OutputFolder.open(out, fingerprint, **options)
    assert listing(out) == before
    return caught.value


def test_a_finished_folder_is_not_touched(tmp_path: Path) -> None:
    convert(tmp_path / "out")
    error = refused(tmp_path / "out")
    assert error.message == f"`{tmp_path / 'out'}` already holds a finished conversion"
    assert error.hint == "replace it with `--overwrite`, or choose another path with `--out`"
    error = refused(tmp_path / "out", fingerprint="f2", resume=True)
    assert error.code == "output.fingerprint"
    assert error.message.endswith("is from a run with different input, options or versions, so it cannot be resumed")


def test_a_finished_folder_is_complete_when_resumed(tmp_path: Path) -> None:
    manifest = convert(tmp_path / "out")
    before = listing(tmp_path / "out")
    assert convert(tmp_path / "out", resume=True) == manifest
    assert listing(tmp_path / "out") == before


def interrupted(out: Path, shards: int = 2) -> None:
    """Leave a run that was killed after some shards."""
    with OutputFolder.open(out, "f1") as folder:
        for number, name in enumerate(names("jsonl")[:shards]):
            write_shard(folder.state, name, "f1", number, "jsonl")


def test_an_interrupted_folder_needs_resume_or_overwrite(tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(out)
    assert not (out / "data").exists()
    error = refused(out)
    assert error.message == f"`{out}` holds an interrupted conversion"
    assert error.hint == "continue it with `--resume`, or start again with `--overwrite`"
    for resume in (False, True):
        assert refused(out, fingerprint="f2", resume=resume).code == "output.fingerprint"


def test_a_resume_keeps_finished_shards_and_removes_the_rest(tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(out, 4)
    first, second, third, fourth = (staged_path(out / ".chatfmt", name) for name in names("jsonl")[:4])
    second.write_bytes(second.read_bytes()[:-1])  # torn
    third.write_bytes(third.read_bytes().replace(b"0", b"1"))  # changed
    staging.receipt_path(out / ".chatfmt", names("jsonl")[3]).unlink()  # killed between shard and receipt
    (first.parent / ".train-00002.x.part").write_bytes(b"torn")
    with OutputFolder.open(out, "f1", resume=True) as folder:
        assert list(finished_shards(folder.state, "f1")) == [names("jsonl")[0]]
        assert [path.name for path in first.parent.iterdir()] == [first.name]
    convert(out, resume=True)
    convert(tmp_path / "other")
    assert listing(out) == listing(tmp_path / "other")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"fingerprint":"f1","shard":{}}'])
def test_receipts_are_not_trusted(tmp_path: Path, damage: bytes) -> None:
    interrupted(tmp_path / "out", 1)
    (receipt,) = (tmp_path / "out/.chatfmt/receipts").iterdir()
    receipt.write_bytes(damage)
    with OutputFolder.open(tmp_path / "out", "f1", resume=True) as folder:
        assert finished_shards(folder.state, "f1") == {}


def test_a_receipt_cannot_point_elsewhere(tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(out, 1)
    state, victim = out / ".chatfmt", tmp_path / "victim"
    victim.write_bytes(b"mine")
    staging.write_receipt(state, Shard("../../../victim", bytes=4), "f1")
    with OutputFolder.open(out, "f1", resume=True) as folder:
        assert list(finished_shards(folder.state, "f1")) == [names("jsonl")[0]]
    assert victim.read_bytes() == b"mine"


def test_two_processes_may_finish_the_same_shard_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = durable.OutputFile.sync

    def while_another_does_too(file: durable.OutputFile) -> None:
        monkeypatch.undo()
        staging.write_receipt(folder.state, shard, "f1")
        sync(file)

    with OutputFolder.open(tmp_path / "out", "f1") as folder:
        shard = write_shard(folder.state, names("jsonl")[0], "f1", 0, "jsonl")
        before = listing(tmp_path / "out")
        monkeypatch.setattr(durable.OutputFile, "sync", while_another_does_too)
        staging.write_receipt(folder.state, shard, "f1")
        assert durable.OutputFile.sync is sync and listing(tmp_path / "out") == before
        assert finished_shards(folder.state, "f1") == {shard.name: shard}


def test_overwriting_an_interrupted_run_starts_again(tmp_path: Path) -> None:
    interrupted(tmp_path / "out")
    convert(tmp_path / "out", fingerprint="f2", overwrite=True)
    convert(tmp_path / "other", fingerprint="f2")
    assert listing(tmp_path / "out") == listing(tmp_path / "other")


def test_overwriting_keeps_the_old_result_until_the_commit(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(out, shards=6)
    old = {name: data for name, data in listing(out).items() if not name.startswith(".")}
    with OutputFolder.open(out, "f2", overwrite=True) as folder:
        write_shard(folder.state, names("parquet")[0], "f2", 0, "parquet")
        assert {name: data for name, data in listing(out).items() if not name.startswith(".")} == old
        assert verify(out) == []
    convert(out, fingerprint="f2", overwrite=True, format="parquet")
    convert(tmp_path / "other", fingerprint="f2", format="parquet")
    assert listing(out) == listing(tmp_path / "other")


@pytest.mark.parametrize("name", ["data/mine.jsonl", "data/sub/mine.txt", "data/train-00000-of-00004.jsonl"])
def test_overwriting_refuses_files_that_are_not_ours(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    convert(out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"my own work")
    error = refused(out, fingerprint="f2", overwrite=True)
    assert error.message == f"`{out / name}` was not written by chatfmt or has changed since, so it is not replaced"
    assert error.hint == "move it away, or choose another path with `--out`"


def test_overwriting_refuses_an_edited_card_and_links(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(out)
    (out / "README.md").write_text("# My notes")
    assert (
        f"`{out / 'README.md'}` was not written by chatfmt or has changed since" in refused(out, overwrite=True).message
    )
    (out / "README.md").unlink()
    (out / "data").rename(tmp_path / "elsewhere")
    (out / "data").symlink_to(tmp_path / "elsewhere")
    assert f"`{out / 'data'}` was not written by chatfmt or has changed since" in refused(out, overwrite=True).message


def test_other_files_beside_the_data_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(out)
    (out / "notes.txt").write_text("mine")
    (out / ".git").mkdir()
    convert(out, fingerprint="f2", overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / ".git").is_dir()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_foreign_files_is_refused(tmp_path: Path, overwrite: bool, resume: bool) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    error = refused(tmp_path, overwrite=overwrite, resume=resume)
    assert error.message == f"`{tmp_path}` is not empty, and chatfmt did not write its files"
    assert listing(tmp_path) == {"thesis.tex": b"mine"}


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match=r"`.*out` is a file"):
        OutputFolder.open(tmp_path / "out", "f1")


def test_a_clone_with_nothing_but_hidden_files_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".gitattributes").write_text("*.parquet lfs")
    convert(tmp_path)
    assert (tmp_path / ".gitattributes").exists()


def test_no_file_is_replaced_if_the_manifest_is_damaged(tmp_path: Path) -> None:
    convert(tmp_path / "out")
    path = tmp_path / "out/.chatfmt/manifest.json"
    path.write_bytes(path.read_bytes().replace(b"train", b"trein", 1))
    error = refused(tmp_path / "out", overwrite=True)
    assert "so chatfmt cannot tell which files are its own" in error.message


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with OutputFolder.open(tmp_path / "out", "f1"):
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(OutputError) as caught:
                OutputFolder.open(tmp_path / "out", "f1", **options)
            assert caught.value.code == "output.locked"
            assert caught.value.message.startswith(
                f"another run is writing to `{tmp_path / 'out'}` (process and host: "
            )
    with OutputFolder.open(tmp_path / "out", "f1", resume=True):
        pass


def test_a_run_that_fails_at_once_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), OutputFolder.open(tmp_path / "out", "f1") as folder:
        staged_path(folder.state, ".train.part").write_bytes(b"torn")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    convert(tmp_path / "out")
    before = listing(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt), OutputFolder.open(tmp_path / "out", "f2", overwrite=True):
        raise KeyboardInterrupt
    assert listing(tmp_path / "out") == before


def test_a_run_that_fails_later_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), OutputFolder.open(tmp_path / "out", "f1") as folder:
        write_shard(folder.state, names("jsonl")[0], "f1", 0, "jsonl")
        raise KeyboardInterrupt
    with OutputFolder.open(tmp_path / "out", "f1", resume=True) as folder:
        assert list(finished_shards(folder.state, "f1")) == [names("jsonl")[0]]


def test_a_commit_needs_every_shard(tmp_path: Path) -> None:
    with OutputFolder.open(tmp_path / "out", "f1") as folder:
        shard = write_shard(folder.state, names("jsonl")[0], "f1", 0, "jsonl")
        with pytest.raises(OutputError, match=r"the shard `data/x.jsonl` is missing or incomplete"):
            folder.commit(Manifest("f1", (shard, Shard("data/x.jsonl", bytes=1))), "card")
    assert not (tmp_path / "out/data").exists()


def test_an_interrupted_commit_is_completed_later(tmp_path: Path) -> None:
    """After a crash right after the decision, the next run of any kind completes the commit first."""
    out = tmp_path / "out"
    convert(out)
    convert(tmp_path / "new", fingerprint="f2", format="parquet")
    wanted = listing(tmp_path / "new")
    (out / ".chatfmt/staged").mkdir()
    (tmp_path / "new/data").rename(out / ".chatfmt/staged/data")
    (tmp_path / "new/.chatfmt/rejects.jsonl").rename(out / ".chatfmt/staged/rejects.jsonl")
    decision = {"manifest": wanted[".chatfmt/manifest.json"].decode(), "card": wanted["README.md"].decode()}
    (out / ".chatfmt/commit.json").write_text(json.dumps(decision))
    assert refused(out).code == "output.exists"
    with OutputFolder.open(out, "f2", resume=True) as folder:
        assert folder.complete
    assert listing(out) == wanted


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100_000, '{"manifest":"{}","card":"x"}', '{"manifest":1,"card":"x"}', '{"manifest":"{}"}']
)
def test_a_damaged_commit_changes_nothing(tmp_path: Path, text: str) -> None:
    convert(out := tmp_path / "out")
    (out / ".chatfmt/commit.json").write_text(text)
    before = listing(out)
    with pytest.raises(InputError, match="is damaged, so its commit cannot be completed"):
        OutputFolder.open(out, "f1", resume=True)
    assert listing(out) == before


def test_files_of_a_killed_worker_are_not_published(tmp_path: Path) -> None:
    with OutputFolder.open(tmp_path / "out", "f1") as folder:
        shard = write_shard(folder.state, names("jsonl")[0], "f1", 0, "jsonl")
        staged = staged_path(folder.state, shard.name).parent
        (staged / ".train-00000-of-00002.jsonl.0badc0de.part").write_bytes(b"half")
        (staged / "deep").mkdir()
        (staged / "deep" / "link").symlink_to(tmp_path)
        folder.commit(Manifest(fingerprint="f1", shards=(shard,)), "card")
    assert verify(tmp_path / "out") == []
    assert {name for name in listing(tmp_path / "out") if name.startswith("data/")} == {shard.name}


@pytest.mark.parametrize(("damage", "problem"), [
    (lambda path: path.write_bytes(path.read_bytes().replace(b"0", b"1", 1)), "its bytes differ from what was written"),
    (Path.unlink, "is missing"),
])  # fmt: skip
def test_a_damaged_shard_is_replaced_by_an_equal_run(tmp_path: Path, damage: Any, problem: str) -> None:
    out = tmp_path / "out"
    convert(out)
    before = listing(out)
    name = names("jsonl")[0]
    damage(out / name)
    assert [str(each) for each in verify(out)] == [f"{name}: {problem}"]
    error = refused(out, resume=True)
    assert error.code == "output.damaged"
    assert error.message == f"`{out}` holds a finished conversion that is damaged: {name}: {problem}"
    assert error.hint == "convert again with `--overwrite`"
    convert(out, overwrite=True)
    assert listing(out) == before and verify(out) == []
