"""Every kind of output opened with `datasets.load_dataset`: the same rows in the same order, and the same splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from ..conftest import from_lines, run_cli, succeed

TEXTS = [
    "plain", "42", "true", "null", "007", "2024-01-01", "[1, 2]", "NaN", '{"a": 1}', "é 🙂 \u2028 \x00 \\", " a\n\n",
    "",
]  # fmt: skip
COMMAND = ["convert", "in.jsonl", "-t", "chatml", "--mask", "--keep", "id", "--quiet"]
FOLDERS = {
    "parquet": [],
    "jsonl": ["--format", "jsonl"],
    "jsonl.gz": ["--format", "jsonl", "--compression", "gz"],
    "jsonl.zst": ["--format", "jsonl", "--compression", "zst"],
}
FILES = {
    "out.jsonl": "json",
    "out.jsonl.gz": "json",
    "out.jsonl.zst": "json",
    "out.jsonl.bz2": "json",
    "out.jsonl.xz": "json",
    "out.parquet": "parquet",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset whose texts look like other types."""
    folder = tmp_path_factory.mktemp("load")
    rows = [
        {"id": f"{row:03}", "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]}
        for row, text in enumerate(TEXTS * 5)
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "in.jsonl").write_text(text, encoding="utf-8")
    return folder


def converted(place: Path, *flags: str) -> list[dict[str, Any]]:
    """What the command gives on stdout, read as JSON."""
    run = succeed(run_cli(*COMMAND, *flags, cwd=place))
    return from_lines(run.stdout.decode())


def loaded(cache: Path, *given: str, **options: Any) -> datasets.DatasetDict:
    return datasets.load_dataset(*given, cache_dir=str(cache), **options)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder(name, place, tmp_path):
    out = tmp_path / "out"
    succeed(run_cli(*COMMAND, *FOLDERS[name], "-o", out, "--rows-per-shard", "25", cwd=place))
    assert len([path for path in (out / "data").iterdir() if path.name.endswith(f".{name}")]) == 3
    found = loaded(tmp_path / "cache", str(out))
    assert list(found) == ["train"]
    expected = converted(place)
    assert len(expected) == 60 and found["train"].to_list() == expected


@pytest.mark.parametrize("name", FOLDERS)
def test_splits_of_a_folder(name, place, tmp_path):
    out = tmp_path / "out"
    succeed(run_cli(*COMMAND, *FOLDERS[name], "-o", out, "--test-fraction", "0.3", cwd=place))
    found = loaded(tmp_path / "cache", str(out))
    assert sorted(found) == ["test", "train"] and all(len(rows) for rows in found.values())
    rows = [row for split in ("train", "test") for row in found[split].to_list()]
    assert sorted(rows, key=lambda row: row["id"]) == converted(place)


@pytest.mark.parametrize("name", FILES)
def test_one_file(name, place, tmp_path):
    succeed(run_cli(*COMMAND, "-o", tmp_path / name, cwd=place))
    found = loaded(tmp_path / "cache", FILES[name], data_files=str(tmp_path / name), split="train")
    assert found.to_list() == converted(place)


@pytest.mark.parametrize("name", ["parquet", "jsonl"])
def test_conversations(name, place, tmp_path):
    out = tmp_path / "out"
    succeed(run_cli("convert", "in.jsonl", *FOLDERS[name], "-o", out, "-q", cwd=place))
    expected = [
        json.loads(line)["messages"] for line in (place / "in.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    ]
    assert [row["messages"] for row in loaded(tmp_path / "cache", str(out))["train"].to_list()] == expected
