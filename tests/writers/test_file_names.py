"""Formats and compressions in the names of output files."""

from __future__ import annotations

import pytest

from chatfmt.errors import UsageError
from chatfmt.writers import check_compression, file_ending, format_from_name


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("x.jsonl", ("jsonl", None)), ("x.jsonl.zst", ("jsonl", "zst")), ("a.b/x.ndjson.gz", ("jsonl", "gz")),
        ("x.json.xz", ("jsonl", "xz")), ("x.parquet", ("parquet", None)), ("out", None), ("out.v1", None),
        ("x.gz", None),
    ],
)  # fmt: skip
def test_format_from_name(name: str, found: tuple[str, str | None] | None) -> None:
    assert format_from_name(name) == found


def test_a_compressed_parquet_file_is_an_error() -> None:
    with pytest.raises(UsageError, match="`x.parquet.gz`: Parquet is compressed internally"):
        format_from_name("x.parquet.gz")


def test_file_endings() -> None:
    assert file_ending("jsonl") == ".jsonl"
    assert file_ending("jsonl", "zst") == ".jsonl.zst"
    assert file_ending("parquet", "snappy") == ".parquet"


def test_unsupported_compressions() -> None:
    with pytest.raises(UsageError, match="`parquet` does not support the compression `zst`"):
        check_compression("parquet", "zst")
    check_compression("jsonl", "zst")
