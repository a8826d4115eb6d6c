"""Samples and fingerprints of sources."""

from __future__ import annotations

from pathlib import Path

import pytest
import xxhash

from chatfmt.errors import InputError
from chatfmt.sources import fingerprint, resolve, sample

from .reading import numbers_of, written

LINES = b"".join(b'{"a": "%d %s"}\n' % (n, b"xyz"[n % 3 : n % 3 + 1] * (n % 50)) for n in range(3000))


def test_samples_and_fingerprints(tmp_path: Path) -> None:
    for name in "abcdef":
        written(tmp_path, LINES, f"d/{name}.jsonl")
    source = resolve(str(tmp_path / "d"))
    batches = sample(source, rows=100)
    assert sum(batch.num_rows for batch in batches) == 100
    assert numbers_of(batches)[:25] == list(range(25))
    ((name, size, digest), *_) = fingerprint(source.splits["train"])
    assert (name, size, len(digest)) == ("a.jsonl", len(LINES), 32)
    written(tmp_path, LINES[:-2] + b"\n\n", "d/a.jsonl")
    with pytest.raises(InputError, match=r"a\.jsonl: the file changed while it was read"):
        fingerprint(source.splits["train"])
    assert fingerprint(resolve(str(tmp_path / "d")).splits["train"])[0][2] != digest


def test_fingerprints_are_in_the_order_of_the_files(tmp_path: Path) -> None:
    contents = {
        f"{place:02}.jsonl": b'{"text":"%d"}\n' % place * (5000 if place % 3 == 0 else 1) for place in range(20)
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    found = fingerprint(resolve(str(tmp_path)).splits["train"])
    assert [(Path(name).name, size, digest) for name, size, digest in found] == [
        (name, len(content), xxhash.xxh3_128_hexdigest(content)) for name, content in contents.items()
    ]
