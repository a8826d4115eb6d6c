"""`media.file` and `media.place`: images that are no files, and placeholders without an image, are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import read_rows, run_here, succeed, to_lines, write_rows

TURNS = [{"role": "user", "content": "<image>Which?"}, {"role": "assistant", "content": "Red."}]
PART = [{"role": "user", "content": [{"type": "image", "image": "gone.png"}]}, TURNS[1]]
PAIR = {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": [{"role": "assistant", "content": "Blue."}]}


def found(folder: Path, *rows: dict[str, Any], flags: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    """The rows with a missing file, and what `chatfmt check` says of each."""
    write_rows(folder / "in.jsonl", rows)
    run = run_here("check", "in.jsonl", "--json", *flags, cwd=folder)
    problems = json.loads(run.stdout)["problems"]
    return [(each["row"], each["detail"]) for each in problems if each["code"] == "media.file"]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": TURNS, "images": ["gone.png"]}, "gone.png"),
        ({"messages": TURNS, "image": "a/gone.png"}, "a/gone.png"),
        ({"messages": PART}, "gone.png"),
        ({**PAIR, "images": ["/gone.png"]}, "/gone.png"),
        ({"messages": TURNS, "images": ["file:///gone%20.png"]}, "file:///gone%20.png"),
        ({"messages": TURNS, "images": [{"path": "gone.png", "bytes": None}]}, "gone.png"),
    ],
)
def test_a_path_without_a_file_is_found(row: dict[str, Any], name: str, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(b"")
    there = {**row, **({"images": ["red.png"], "messages": TURNS} if "messages" in row else {"images": ["red.png"]})}
    assert found(tmp_path, row, {key: there[key] for key in there if key != "image"}) == [
        (0, f"there is no file `{name}`")
    ]


def test_the_folder_is_that_of_the_source_or_media_root(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "red.png").write_bytes(b"")
    row = {"messages": TURNS, "images": ["red.png"]}
    assert found(tmp_path, row) == [(0, "there is no file `red.png`")]
    assert found(tmp_path, row, flags=("--media-root", str(tmp_path / "pictures"))) == []
    assert found(tmp_path, {**row, "images": ["pictures/red.png"]}, {**row, "images": ["https://host/red.png"]}) == []


def test_of_the_paths_in_rows_from_stdin_only_full_ones_are_looked_for(tmp_path: Path) -> None:
    rows = to_lines([{"messages": TURNS, "images": [name]} for name in ("gone.png", str(tmp_path / "gone.png"))])
    problems = json.loads(run_here("check", "-", "--json", stdin=rows.encode(), cwd=tmp_path).stdout)["problems"]
    missing = [(each["row"], each["detail"]) for each in problems if each["code"] == "media.file"]
    assert missing == [(1, f"there is no file `{tmp_path}/gone.png`")]


def test_a_conversion_counts_the_rows_and_can_refuse_them(tmp_path: Path) -> None:
    row = {"messages": TURNS, "images": ["gone.png"]}
    write_rows(tmp_path / "in.jsonl", [row])
    arguments = ("convert", "in.jsonl", "--for", "trl-sft", "-o", "out")
    assert run_here(*arguments, cwd=tmp_path).stderr.decode().splitlines()[-1] == "warnings: media.file 1"
    run = run_here(*arguments, "--overwrite", "--fail-on", "media.file", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode()) == (
        4,
        "error: in.jsonl row 0: there is no file `gone.png` (line 1)\n"
        "hint: --media-root DIR names the folder of the files\n",
    )


@pytest.mark.parametrize("content", ["<image>Which?", [{"type": "text", "text": "<image>Which?"}]])
@pytest.mark.parametrize("image", [None, []])
def test_a_placeholder_in_a_row_without_an_image_is_named(content: object, image: object, tmp_path: Path) -> None:
    rows = [{"messages": TURNS, "images": ["red.png"]}]
    rows += [{"messages": [{"role": "user", "content": content}, TURNS[1]], "images": image}]
    write_rows(tmp_path / "in.jsonl", rows)
    (tmp_path / "red.png").write_bytes(b"")
    run = run_here("check", "in.jsonl", "--json", cwd=tmp_path)
    (problem,) = json.loads(run.stdout)["problems"]
    said = ("media.place", 1, 0, "`<image>` stays text: the row has no image")
    assert (problem["code"], problem["row"], problem["message"], problem["detail"]) == said
    arguments = ("convert", "in.jsonl", "-t", "qwen2.5-vl", "--fail-on", "media.place", "--on-error", "skip")
    assert run_here(*arguments, cwd=tmp_path).stdout.count(b"<|image_pad|>") == 1


@pytest.mark.parametrize("options", [("out.jsonl",), ("out.parquet", "--embed-media")])
@pytest.mark.parametrize("value", [None, 1, {"n": 1}, [["a.png"], 1]])
def test_a_kept_column_with_a_name_of_media_may_hold_anything(
    value: object, options: tuple[str, ...], tmp_path: Path
) -> None:
    row = {"messages": [{"role": "user", "content": "Which?"}, TURNS[1]], "videos": value}
    write_rows(tmp_path / "in.jsonl", [row])
    succeed(run_here("convert", "in.jsonl", "--keep", "all", "-o", *options, cwd=tmp_path))
    succeed(run_here("convert", options[0], "--keep", "all", "-o", "again.jsonl", cwd=tmp_path))
    assert read_rows(tmp_path / "again.jsonl") == [row]


def test_a_placeholder_where_no_row_has_images_is_text(tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", [{"messages": TURNS}])
    assert json.loads(run_here("check", "in.jsonl", "--json", cwd=tmp_path).stdout)["problems"] == []
