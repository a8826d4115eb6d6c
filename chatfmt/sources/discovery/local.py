"""Describe a local file as a `SourceFile`; the format is detected from its content."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...errors import ChatfmtError, InputError
from ...whole_files import check_written, is_regular
from ..bytes.text import content
from ..bytes.unchanged import file_identity
from ..formats.columnar import check_parquet
from ..formats.json_document import check_not_one_object, keys_beside
from ..formats.jsonl import without_bom
from ..json.strict import parse_value
from ..model import ParseOptions, SourceFile
from .sniff import detect_format


def field_notes(file: SourceFile, options: ParseOptions) -> Iterator[str]:
    """Yield a note on what `--field` leaves behind in a document beside lists of records in lists."""
    if options.field is None or "[]." not in options.field or file.format not in ("json", "jsonl"):
        return
    text = b"".join(without_bom(content(file, options))[0])
    with suppress(ChatfmtError):  # which reading the records raises
        document = parse_value(text.split(b"\n", 1)[0] if file.format == "jsonl" else text)
        if beside := ", ".join(f"`{key}`" for key in keys_beside(document, options.field)):
            outer = shlex.quote(options.field.rpartition(".")[0])
            yield f"`--field {options.field}` leaves behind {beside}: --field {outer} with --explode keeps more"


def local_file(path: Path, options: ParseOptions, shown: str | None = None) -> SourceFile:
    """Describe the file at `path`, named `shown` in messages. Raises InputError if it is missing, empty or not data."""
    shown = (str(path) if shown is None else shown).encode(errors="backslashreplace").decode()
    if not is_regular(path):
        hint = "a file is read more than once: pipe rows in instead, `… | chatfmt convert -`"
        raise InputError(f"`{path}` is not a regular file", code="file.missing", hint=hint)
    size, identity = path.stat().st_size, file_identity(str(path))
    check_written(path, shown)
    format, compression = detect_format(str(path), shown, options)
    file = SourceFile(str(path), shown, format, compression, size, identity)
    if format == "parquet":
        check_parquet(str(path), shown)
    if format == "json" and options.field is None:
        check_not_one_object(file, content(file, options), content(file, options))
    return file
