"""Formats and compressions in the names of output files."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from .encoders import COMPRESSIONS, PARQUET_COMPRESSIONS

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
"""The format for each suffix of an output file."""


def format_from_name(name: str) -> tuple[str, str | None] | None:
    """Return the format and compression that a file name asks for; None for the name of a folder.

    Raises UsageError for a compressed Parquet name (`x.parquet.gz`): Parquet compresses its pages itself.
    """
    path = Path(name)
    compression = path.suffix[1:] if path.suffix[1:] in COMPRESSIONS else None
    inner = path.with_suffix("").suffix if compression else path.suffix
    format = SUFFIXES.get(inner)
    if format == "parquet" and compression:
        raise UsageError(f"`{name}`: Parquet is compressed internally", hint=f"--out {path.stem} --compression zstd")
    return (format, compression) if format else None


def file_ending(format: str, compression: str | None = None) -> str:
    """Return the suffix for files of a format: `.parquet`, `.jsonl`, `.jsonl.zst`."""
    return f".{format}.{compression}" if format == "jsonl" and compression in COMPRESSIONS else f".{format}"


def check_compression(format: str, compression: str | None) -> None:
    """Raise UsageError for a compression that the format does not support."""
    known = PARQUET_COMPRESSIONS if format == "parquet" else (*COMPRESSIONS, "none")
    if compression is not None and compression not in known:
        raise UsageError(
            f"`{format}` does not support the compression `{compression}`", hint=f"one of: {', '.join(known)}"
        )
