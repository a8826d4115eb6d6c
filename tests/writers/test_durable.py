"""A file that is written whole or not at all keeps its old content, and its name stands in the error."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from chatfmt.errors import OutputError
from chatfmt.writers import write_atomic

from .samples import listing


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    page = tmp_path / "page.html"
    write_atomic(page, b"old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError) as caught:
        write_atomic(page, b"new")
    monkeypatch.undo()
    assert (caught.value.message, caught.value.hint) == (
        f"cannot write `{page}`: the disk is full",
        "free some space, then run again",
    )
    assert listing(tmp_path) == {"page.html": b"old"}
