"""Formats and compressions in the names of output files."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import UsageError
from ..manifest import DATA
from .encoders import COMPRESSIONS, PARQUET_COMPRESSIONS

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
"""The format for each suffix of an output file."""


def format_from_name(name: str) -> tuple[str, str | None] | None:
    """Return the format and compression that a file name asks for; None for the name of a folder.

    Raises UsageError for a compressed Parquet name (`x.parquet.gz`), as Parquet compresses its pages itself, and for a
    suffix alone (`.jsonl`), as a script has it whose variable for the name is empty.
    """
    path = Path(name)
    if path.name.startswith(".") and format_from_name(f"train{path.name}"):
        raise UsageError(f"`{name}` is a suffix without a name", hint=f"name a file, such as train{path.name}")
    compression = path.suffix[1:] if path.suffix[1:] in COMPRESSIONS else None
    inner = path.with_suffix("").suffix if compression else path.suffix
    format = SUFFIXES.get(inner)
    if format == "parquet" and compression:
        raise UsageError(f"`{name}`: Parquet is compressed internally", hint=f"--out {path.stem} --compression zstd")
    return (format, compression) if format else None


def file_ending(format: str, compression: str | None = None) -> str:
    """Return the suffix for files of a format: `.parquet`, `.jsonl`, `.jsonl.zst`."""
    return f".{format}.{compression}" if format == "jsonl" and compression in COMPRESSIONS else f".{format}"


SHARD_NAME = "{split}-{shard:05d}-of-{shards:05d}"
"""The default pattern of the names of shards."""


_LONGEST = 200
"""Bytes of a shard's name: file systems allow 255, of which longer splits, endings and temporary files need some."""


def check_shard_name(pattern: str, shards: int | None = None) -> None:
    """Raise UsageError unless the pattern gives each of so many shards a name, and each split a glob of its own.

    Splits have no `-` in their names, so that between two of them the glob of no other split fits. A pattern that cuts
    numbers short gives two powers of ten one name.
    """
    count = shards or 10**6
    numbers = {0, count - 1, *(10**power for power in range(len(str(count))) if 10**power < count)}
    try:
        names = [pattern.format(split="train", shard=number, shards=count) for number in numbers]
    except (ValueError, KeyError, IndexError, AttributeError):
        names = []
    is_apart = re.search(r"(^|-)\{split\}(-|$)", pattern)
    is_long = any(len(name.encode()) > _LONGEST for name in names)
    are_apart = len({*names}) == len(numbers) and all(re.fullmatch(r"[\w-]+", name) for name in names)
    if not is_apart or is_long or not are_apart:
        raise UsageError(
            f"`--shard-name {pattern}` does not name each shard of each split",
            hint=f"such as '{SHARD_NAME}': letters, digits, `_` and `-`, with `-` around {{split}}",
        )


def shard_names(pattern: str, split: str, count: int, ending: str) -> list[str]:
    """Return the names of the shards of a split, below the folder of the output."""
    names = [pattern.format(split=split, shard=number, shards=count) for number in range(count)]
    return [f"{DATA}/{name}{ending}" for name in names]


def shard_glob(pattern: str, split: str, ending: str) -> str:
    """Return the glob of the shards of a split, `data/train-*.parquet`."""
    numbers = re.sub(r"\{shards?[^}]*\}", "*", pattern)
    return f"{DATA}/{re.sub(r'[*][^{]*[*]', '*', numbers).replace('{split}', split)}{ending}"


def check_compression(format: str, compression: str | None) -> None:
    """Raise UsageError for a compression that the format does not support."""
    known = PARQUET_COMPRESSIONS if format == "parquet" else (*COMPRESSIONS, "none")
    if compression is not None and compression not in known:
        raise UsageError(
            f"`{format}` does not support the compression `{compression}`", hint=f"one of: {', '.join(known)}"
        )
