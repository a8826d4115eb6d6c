"""Read records inside a JSON document at the path of `--field`, whose syntax is in `field_path`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from ...errors import InputError, Location, RowError
from ...field_path import Every, FieldPath, NoSuchStep, Step
from ..json.strict import parse_value
from ..model import InputSplit, SourceFile
from .jsonl import without_bom


def find_records(document: Any, path: str, shown: str) -> Iterator[Any]:
    """Yield the records at `path`, in order; a list at its end is replaced by its elements.

    `columns(path)` makes rows of the columns there: `{"a": [1, 2], "b": [3, 4]}` is `{"a": 1, "b": 3}` and so on.

    Raises UsageError for an invalid path, InputError if the path leads nowhere, with what is there instead.
    """
    columns = re.fullmatch(r"columns\((.*)\)", path)
    try:
        for value in FieldPath.parse_in_document(columns[1] if columns else path).find_all(document):
            yield from _rows_of_columns(value, path, shown) if columns else value if type(value) is list else [value]
    except NoSuchStep as error:
        there = ", ".join(f"`{key}`" for key in error.value) if type(error.value) is dict else _kind(error.value)
        wanted = _MISSING.get(error.step, f"`{error.step}`")
        flags = _flags(_lists_of_records(document))
        raise InputError(
            f"`--field {path}`: no {wanted} there", code="json.field", at=Location(shown),
            hint=f"there is {there}" + (f"; records could be at {flags}" if flags else ""),
        ) from None  # fmt: skip


def keys_beside(document: Any, path: str) -> list[str]:
    """Return the paths of what stands beside the records at `path`, in the first of the lists that it leads through."""
    beside, prefix, value = [], "", document
    for step in FieldPath.parse_in_document(path).steps:
        if isinstance(step, str) and type(value) is dict:
            beside += [f"{prefix}{key}" for key in value if key != step]
            prefix, value = f"{prefix}{step}", value.get(step)
        elif step is Every.ITEM and type(value) is list and value:
            prefix, value = f"{prefix}[].", value[0]
    return beside


_MISSING: dict[Step, str] = {Every.ITEM: "list", Every.VALUE: "object"}


def _rows_of_columns(value: Any, path: str, shown: str) -> list[dict[str, Any]]:
    """Return the rows in an object of lists of one length, or of objects with the same keys, as pandas writes them."""
    columns = list(value.values()) if type(value) is dict else []
    if len(columns) > 1 and all(type(column) is list and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(value, items, strict=True)) for items in zip(*columns, strict=True)]
    if len(columns) > 1 and all(type(column) is dict and column.keys() == columns[0].keys() for column in columns):
        return [{name: column[key] for name, column in value.items()} for key in columns[0]]
    text, hint = f"`--field {path}`: no columns of one length there", "name an object of lists of one length"
    raise InputError(text, code="json.field", at=Location(shown), hint=hint)


def _kind(value: Any) -> str:
    return {"list": "a list", "str": "text", "dict": "an object"}.get(type(value).__name__, "a plain value")


def check_not_one_object(file: SourceFile, chunks: Iterable[bytes], whole: Iterable[bytes]) -> None:
    """Raise InputError if a JSON document is one object, with the `--field` to use as the hint.

    `chunks` and `whole` both yield its text; `whole` is read only to look into the object.
    """
    head, _ = without_bom(chunks)
    first = next((text for text in (part.lstrip() for part in head) if text), b"")
    if first[:1] != b"{":
        return
    try:
        parts, _ = without_bom(whole)
        hint = _field_hint(parse_value(b"".join(parts)))
    except RowError as error:
        at = Location(file.shown, line=error.at.line, byte=error.at.byte)
        hint = _hint_for_several(first, file.shown) if "extra data" in error.message else ""
        raise InputError(error.message, hint=hint, code=error.code, at=at) from None
    raise InputError(
        "the file is one JSON object, not a list of records", code="json.document", at=Location(file.shown), hint=hint
    )


def _hint_for_several(text: bytes, shown: str) -> str:
    """Hint for several values that are not JSON Lines: with a comma after each line, or over several lines."""
    file = shlex.quote(shown)
    if re.match(rb"[^\n]*\}[ \t]*,[ \t\r]*\n", text):
        return f"remove the commas at the ends of lines: sed -E 's/,[[:space:]]*$//' {file} > lines.jsonl"
    return f"write one value per line: jq -c . {file} > lines.jsonl"


def _field_hint(document: Any) -> str:
    if flags := _flags(_lists_of_records(document, depth=1)):
        return f"{flags}, or `--field .` for one record"
    values = list(document.values())
    if values and all(type(value) is dict for value in values) and set.intersection(*map(set, values)):
        return "`--field 'values(.)'`"
    return _flags(_lists_of_records(document)) or "name the path to the records with `--field`"


def _lists_of_records(document: Any, path: str = "", depth: int = 3) -> Iterator[str]:
    """Yield the paths to lists of objects in an object, or in objects inside of it."""
    for key, value in document.items() if type(document) is dict and depth else ():
        if type(value) is list and any(type(item) is dict for item in value):
            yield f"{path}{key}"
        yield from _lists_of_records(value, f"{path}{key}.", depth - 1)


def _flags(paths: Iterable[str]) -> str:
    return " or ".join(f"`--field {shlex.quote(path)}`" for path in islice(paths, 3))


def document_records(chunks: Iterable[bytes], file: SourceFile | InputSplit, path: str) -> Iterator[Any]:
    """Yield the records at `path` in a JSON document, or in each line of JSON Lines. Holds the text in memory."""
    parts, _ = without_bom(chunks)
    text = b"".join(parts)
    for number, document in enumerate(text.split(b"\n") if file.format == "jsonl" else [text]):
        if document.strip():
            try:
                value = parse_value(document)
            except RowError as error:
                at = Location(file.shown, line=number + (error.at.line or 1), byte=error.at.byte)
                raise InputError(error.message, code=error.code, at=at) from None
            yield from find_records(value, path, file.shown)
