"""Part files are mapped into memory, and give it back."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from chatfmt.writers import TAG, TAG_TYPE, PartFile, ShardWriter

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the system decides when memory is given back"
)


def mapped_kib(path: Path) -> int:
    """The resident memory of the mapping of a file."""
    found = re.search(rf"{re.escape(str(path))}\n.*?\nRss:\s+(\d+) kB", Path("/proc/self/smaps").read_text(), re.DOTALL)
    return int(found[1]) if found else 0


def test_memory_is_given_back_and_rows_are_read_again(tmp_path: Path) -> None:
    texts = pa.array([f"{number} " + "x" * 5000 for number in range(1000)])
    batch = pa.RecordBatch.from_arrays([texts, pa.array([b"\0" * 40] * 1000, TAG_TYPE)], names=["text", TAG])
    path = tmp_path / "part"
    with ShardWriter(path, "parquet-part", pa.schema([("text", pa.string())])) as writer:
        writer.write(batch)
    part = PartFile(path)
    assert part.batches[0].take(pa.array([999, 0])).column("text").equals(texts.take(pa.array([999, 0])))
    assert part.batches[0].column("text").equals(texts) and mapped_kib(path) > 4000
    part.release()
    assert mapped_kib(path) < 1000
    assert part.batches[0].column("text").equals(texts)
    part.close()
    assert mapped_kib(path) == 0, "the file is no longer mapped"
