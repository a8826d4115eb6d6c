"""Files that never end and files that are far too large: an error of one line for each place that reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chatfmt.whole_files import is_regular
from tests.conftest import run_cli

ROW = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
COMMANDS = {
    "template": ("row.jsonl", "-t", "./x.jinja"),
    "recipe": ("x.yaml",),
    "model": ("row.jsonl", "-t", "./model"),
    "tokenizer": ("row.jsonl", "-t", "chatml", "--to", "tokens", "--tokenizer", "x.json"),
    "card": ("folder",),
}
FILES = {"template": "x.jinja", "recipe": "x.yaml", "model": "model/tokenizer_config.json", "tokenizer": "x.json"}


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / FILES.get(kind, "folder/README.md")
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "row.jsonl").write_text(ROW)
    (path.parent / "train.jsonl").write_text(ROW)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    done = run_cli("convert", *COMMANDS[kind], "-o", "out.parquet", cwd=tmp_path)
    assert done.returncode == 3
    says = f"{path.relative_to(tmp_path)}` has 1,099,511,627,776 bytes, more than the "
    assert done.stderr.decode().startswith("error: `") and says in done.stderr.decode()
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.skipif(not os.access("/proc/self/mounts", os.R_OK), reason="there is no /proc")
@pytest.mark.parametrize("kind", [*FILES, "source"])
def test_a_file_without_a_size_that_has_text_is_not_read(tmp_path: Path, kind: str) -> None:
    """The files of /proc are such; reading /proc/kmsg waits for what the kernel says next."""
    path = tmp_path / FILES.get(kind, "x.jsonl")
    path.parent.mkdir(exist_ok=True)
    (tmp_path / "row.jsonl").write_text(ROW)
    path.symlink_to("/proc/self/mounts")
    done = run_cli("convert", *COMMANDS.get(kind, ("x.jsonl",)), "-o", "out.parquet", cwd=tmp_path)
    assert done.returncode == 3
    assert f"{path.relative_to(tmp_path)}` is not a regular file\n" in done.stderr.decode()


def test_what_is_regular(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    os.mkfifo(tmp_path / "pipe")
    found = {str(path): is_regular(path) for path in (empty, tmp_path / "pipe", tmp_path, tmp_path / "none")}
    assert list(found.values()) == [True, False, False, False]
    assert is_regular(Path(__file__)) and not is_regular(Path("/dev/null"))
