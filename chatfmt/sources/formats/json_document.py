"""Records inside a JSON document, found by a path (`--field`); `field_path` has its syntax."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import InputError, Location, RowError
from ...field_path import Every, FieldPath, NoSuchStep, Step
from ..json.strict import parse_value
from ..model import InputSplit, SourceFile
from .jsonl import without_bom


def find_records(document: Any, path: str, shown: str) -> Iterator[Any]:
    """Yield the records at `path`, in order; a list at its end stands for its elements.

    Raises UsageError for what is not a path, InputError where a step does not lead on, naming what is there.
    """
    try:
        for value in FieldPath.parse_in_document(path).find_all(document):
            yield from value if type(value) is list else [value]
    except NoSuchStep as error:
        there = ", ".join(f"`{key}`" for key in error.value) if type(error.value) is dict else _kind(error.value)
        wanted = _MISSING.get(error.step, f"`{error.step}`")
        raise InputError(
            f"`--field {path}`: no {wanted} there", code="json.field", at=Location(shown), hint=f"there is {there}"
        ) from None


_MISSING: dict[Step, str] = {Every.ITEM: "list", Every.VALUE: "object"}


def _kind(value: Any) -> str:
    return {"list": "a list", "str": "text", "dict": "an object"}.get(type(value).__name__, "a plain value")


def check_not_one_object(file: SourceFile, chunks: Iterable[bytes], whole: Iterable[bytes]) -> None:
    """Raises InputError where a JSON document is one object, and says which `--field` to type.

    `chunks` and `whole` are its text twice, of which `whole` is read only to look into the object.
    """
    head, _ = without_bom(chunks)
    if next((text[:1] for text in (part.lstrip() for part in head) if text), b"") != b"{":
        return
    try:
        parts, _ = without_bom(whole)
        hint = _field_hint(parse_value(b"".join(parts)))
    except RowError as error:
        at = Location(file.shown, line=error.at.line, byte=error.at.byte)
        several = "extra data" in error.message
        hint = f"several values go on a line each: jq -c . {file.shown}" if several else ""
        raise InputError(error.message, hint=hint, code=error.code, at=at) from None
    raise InputError("this is one JSON object, not records", code="json.document", at=Location(file.shown), hint=hint)


def _field_hint(document: Any) -> str:
    lists = [key for key, value in document.items() if type(value) is list and any(type(i) is dict for i in value)]
    if lists:
        return f"{' or '.join(f'`--field {key}`' for key in lists[:3])}, or `--field .` if it is a record itself"
    if document and all(type(value) is dict for value in document.values()):
        return "`--field 'values(.)'`"
    return "say where they lie with `--field`"


def document_records(chunks: Iterable[bytes], file: SourceFile | InputSplit, path: str) -> Iterator[Any]:
    """The records at `path` of a JSON document, or of the document on each line of JSON Lines. Holds it in memory."""
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
