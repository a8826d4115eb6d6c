"""Archives whose members cannot be files beside each other."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

from ...conftest import run_here

ROW = b'{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]}\n'
WHAT = "that cannot be beside the others\nhint: unpack it and name a file\n"


def test_a_file_that_is_a_folder_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.jsonl", ROW)
        archive.writestr("x.jsonl/y.jsonl", ROW)
    run = run_here("convert", "a.zip", "-o", "out.jsonl", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode()) == (
        3,
        f"error: a.zip: the archive has a file `x.jsonl/y.jsonl` {WHAT}",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_name_with_a_nul(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("x.jsonl")
        member.size, member.pax_headers = len(ROW), {"path": "a\0b.jsonl"}
        archive.addfile(member, io.BytesIO(ROW))
    run = run_here("convert", "a.tar", "-o", "out.jsonl", cwd=tmp_path)
    assert (run.returncode, run.stderr.decode()) == (3, f"error: a.tar: the archive has a file `a\\x00b.jsonl` {WHAT}")
