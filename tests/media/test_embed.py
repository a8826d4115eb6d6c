"""`--embed-media`: the bytes of the files that a dataset names, in the folder of the source or in `--media-root`."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chatfmt.pipeline.conversion.media_files import find_files, with_bytes
from tests.conftest import run_cli, run_here, succeed, write_rows
from tests.media.test_cases import PNG, sharegpt


def embedded(folder: Path, rows: list[Any], *flags: str) -> tuple[int, str, list[Any]]:
    """The exit code, the messages, and the media of each row of the output."""
    write_rows(folder / "in.jsonl", rows)
    out = ("-o", "out.parquet", "-q", "--embed-media")
    result = run_here("convert", "in.jsonl", *(flags or ("--to", "messages")), *out, cwd=folder)
    path = folder / "out.parquet"
    return result.returncode, result.stderr.decode(), pq.read_table(path)["images"].to_pylist() if path.exists() else []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "1.png").write_bytes(PNG)
    (tmp_path / "data" / "2.jpg").write_bytes(b"2")
    (tmp_path / "secret.png").write_bytes(b"s")
    return tmp_path / "data"


def row(*images: str) -> dict[str, Any]:
    return {"images": list(images), "conversations": sharegpt("<image>" * len(images) + "What?")}


FIRST, SECOND = {"bytes": PNG, "path": "1.png"}, {"bytes": b"2", "path": "2.jpg"}


@pytest.mark.parametrize("flags", [("--to", "messages"), ("-t", "gemma-3"), ("--to", "prompt-completion")])
def test_files_are_read_from_the_folder_of_the_source(flags: tuple[str, str], folder: Path) -> None:
    uri = "data:image/png;base64," + base64.b64encode(PNG).decode()
    rows = [row("a/1.png", "2.jpg"), row(), row(uri), row(f"file://{folder}/2.jpg")]
    made = embedded(folder, rows, *flags)
    assert made == (0, "", [[FIRST, SECOND], [], [{"bytes": PNG, "path": None}], [SECOND]])


def test_files_are_read_from_the_root_that_is_named(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    rows = [row("a/1.png"), row(str(folder / "2.jpg"))]
    assert embedded(other, rows, "--to", "messages", "--media-root", str(folder)) == (0, "", [[FIRST], [SECOND]])


OUTSIDE = "--media-root DIR names a folder around it"
MISSING = "--media-root DIR names the folder, --on-error skip drops such rows"


@pytest.mark.parametrize(
    ("image", "message", "hint"),
    [
        ("b.png", "there is no file `b.png` in `.`", MISSING),
        ("a", "there is no file `a` in `.`", MISSING),
        ("../secret.png", "`../secret.png` is outside of `.`", OUTSIDE),
        ("/etc/hostname", "`/etc/hostname` is outside of `.`", OUTSIDE),
        ("http://e.org/a.png", "`http://e.org/a.png` is a URL", "download it first, or leave out --embed-media"),
    ],
)
def test_a_medium_that_is_no_file_of_the_folder_is_an_error(image: str, message: str, hint: str, folder: Path) -> None:
    rows = [row("a/1.png"), row(image), row("2.jpg")]
    assert embedded(folder, rows) == (4, f"error: in.jsonl row 1: {message} (line 2)\nhint: {hint}\n", [])
    skip = ("--to", "messages", "--on-error", "skip", "--max-bad", "1")
    assert embedded(folder, rows, *skip)[::2] == (0, [[FIRST], [SECOND]])


def test_a_source_in_several_folders_and_a_compressed_one(folder: Path, tmp_path: Path) -> None:
    for name, image in (("x", b"x"), ("y", b"y")):
        (tmp_path / "many" / name).mkdir(parents=True)
        (tmp_path / "many" / name / "p.png").write_bytes(image)
        with gzip.open(tmp_path / "many" / name / f"{name}.json.gz", "wt") as file:
            json.dump([row("p.png")], file)
    out = ("--to", "messages", "--embed-media", "-o", "out.parquet", "-q")
    succeed(run_here("convert", "many", *out, cwd=tmp_path))
    made = pq.read_table(tmp_path / "out.parquet")["images"].to_pylist()
    assert made == [[{"bytes": image, "path": "p.png"}] for image in (b"x", b"y")]


def test_stdin_has_no_folder(folder: Path) -> None:
    flags = ("--to", "messages", "--embed-media", "-o", "out.parquet", "-q")
    line = json.dumps(row("a/1.png")) + "\n"
    result = run_cli("convert", "-", *flags, stdin=line, cwd=folder)
    assert (result.returncode, result.stderr.decode()) == (
        4,
        "error: stdin row 0: `a/1.png` is a path, and the source has no folder (line 1)\n"
        "hint: --media-root DIR names the folder; an archive must be unpacked first\n",
    )
    assert run_cli("convert", "-", *flags, "--media-root", ".", stdin=line, cwd=folder).returncode == 0


@pytest.mark.parametrize("source", ["in.jsonl", "-"])
def test_json_lines_cannot_hold_bytes(folder: Path, source: str) -> None:
    line = json.dumps(row("a/1.png")) + "\n"
    (folder / "in.jsonl").write_text(line)
    result = run_here("convert", source, "--embed-media", "-o", "-", cwd=folder, stdin=line.encode())
    assert (result.returncode, result.stderr.decode()) == (
        2,
        "error: `--embed-media` writes bytes, which JSON Lines cannot hold\nhint: -o out/ or -o x.parquet\n",
    )


def test_more_media_than_fit_into_memory_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatfmt.pipeline.conversion.media_files.BATCH_BYTES", 100)
    rows = [row("a/1.png"), row("2.jpg", "a/1.png"), row(), row("2.jpg")]
    assert embedded(folder, rows)[2] == [[FIRST], [SECOND, FIRST], [], [SECOND]]


def test_a_row_of_more_bytes_than_fit_is_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatfmt.pipeline.conversion.media_files.BATCH_BYTES", 2)
    batch = pa.record_batch({"images": pa.array([["a/1.png"], ["2.jpg"], ["2.jpg"], [], ["2.jpg"]])})
    parts = with_bytes(find_files(batch, str(folder)))
    assert [part["images"].to_pylist() for part in parts] == [[[FIRST]], [[SECOND], [SECOND], []], [[SECOND]]]
