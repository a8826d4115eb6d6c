"""Write files that cannot be read from the middle as plain text that can."""

from __future__ import annotations

import os
from pathlib import Path

import xxhash
from msgspec.structs import replace

from ...json_columns import dumps
from ...scratch_folder import write
from ..bytes.text import content, is_seekable
from ..formats.json_document import document_records
from ..model import ParseOptions, Source, SourceFile


def needs_unpacking(file: SourceFile, options: ParseOptions) -> bool:
    """Return whether every shard of the file would have to read it from the beginning."""
    return file.format not in ("parquet", "arrow") and not is_seekable(file, options)


def unpack_file(file: SourceFile, folder: Path, options: ParseOptions) -> SourceFile:
    """Write the records to a plain file in `folder`, which keeps the `shown` name and row numbers.

    Compressed or recoded text becomes UTF-8 text of the same format, byte for byte; the records of a JSON document
    (`--field`) become JSON Lines, so errors count the lines of these.
    """
    target = folder / xxhash.xxh3_128_hexdigest(os.fsencode(file.uri))
    chunks = content(file, options)
    if options.field is not None:
        records = document_records(chunks, file, options.field)
        chunks = (dumps(record).encode() + b"\n" for record in records)
    write(target, chunks)
    format = file.format if options.field is None else "jsonl"
    return SourceFile(str(target), file.shown, format, None, target.stat().st_size)


def unpack_source(source: Source, folder: Path) -> Source:
    """The source with its files unpacked to `folder` where needed; the source itself if no file needs it."""
    if not any(needs_unpacking(file, source.options) for file in source.files):
        return source
    plain = {
        name: tuple(
            unpack_file(file, folder, source.options) if needs_unpacking(file, source.options) else file
            for file in split
        )
        for name, split in source.splits.items()
    }
    return replace(source, splits=plain, options=replace(source.options, field=None, encoding=None))
