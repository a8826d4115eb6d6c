"""Text that chatfmt rendered beside its images is read back with them, without a flag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ..conftest import run_here, succeed, write_rows

ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "<image>Which?"}, {"role": "assistant", "content": "Red."}],
     "images": ["red.png"]},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}], "images": []},
]  # fmt: skip


@pytest.mark.parametrize("flags", [("--to", "text"), ("--to", "segments"), ("--to", "text", "--embed-media")])
def test_an_output_of_text_with_images_is_read_with_them(flags: tuple[str, ...], tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "red.png").write_bytes(b"\x89PNG")
    template = ("-t", "qwen2.5-vl", "--system", "Look.")
    first = convert(tmp_path, "in.jsonl", *template, *flags)
    assert first[0]["images"] == (
        [{"bytes": b"\x89PNG", "path": "red.png"}] if "--embed-media" in flags else ["red.png"]
    )
    (tmp_path / "out").rename(tmp_path / "first")
    assert convert(tmp_path, "first", *template, *flags[:2]) == first
    plain = convert(tmp_path, "first")
    assert [row["images"] for row in plain] == [row["images"] for row in first]


def convert(folder: Path, source: str, *flags: str) -> list[dict[str, Any]]:
    succeed(
        run_here("convert", folder / source, *flags, "--format", "parquet", "--overwrite", "-o", folder / "out", "-q")
    )
    (path,) = (folder / "out" / "data").glob("*.parquet")
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
