"""Records that lie somewhere inside a JSON document, found by a path.

A path is names with dots between them: `data`, `data[].paragraphs[].qas[]`; `[]` goes into each element of a list,
`values(data)` takes the values of the object at `data`, `values(.)` those of the document itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import InputError, Location, RowError, UsageError
from ..json.strict import parse_value
from ..model import InputSplit, SourceFile
from .jsonl import without_bom

_VALUES = re.compile(r"values\((.*)\)")


def parse_path(path: str) -> list[str]:
    """The steps of a path: names, `[]` for each element, `{}` for each value. Raises UsageError."""
    if found := _VALUES.fullmatch(path):
        return [*parse_path(found[1]), "{}"]
    if path in ("", "."):
        return []
    steps: list[str] = []
    for part in path.split("."):
        name = part.rstrip("[]")
        lists = part[len(name) :]
        if (not name and not lists) or lists.replace("[]", ""):
            raise UsageError(f"`--field {path}` is not a path", hint="write it as `data` or `data[].items[]`")
        steps += [name] if name else []
        steps += ["[]"] * (len(lists) // 2)
    return steps


def find_records(document: Any, path: str, shown: str) -> Iterator[Any]:
    """The records at `path`, in order; a list at its end stands for its elements.

    Raises InputError where a step does not lead on, naming what is there.
    """
    for value in _walk(document, parse_path(path), path, shown):
        yield from value if type(value) is list else [value]


def _walk(value: Any, steps: list[str], path: str, shown: str) -> Iterable[Any]:
    if not steps:
        return [value]
    step, rest = steps[0], steps[1:]
    inner = _step(value, step)
    if inner is None:
        there = ", ".join(f"`{key}`" for key in value) if type(value) is dict else _kind(value)
        wanted = {"[]": "a list", "{}": "an object"}.get(step, f"`{step}`")
        raise InputError(
            f"`--field {path}`: no {wanted.removeprefix('a ').removeprefix('an ')} there",
            code="json.field",
            at=Location(shown),
            hint=f"there is {there}",
        )
    return (found for item in inner for found in _walk(item, rest, path, shown))


def _step(value: Any, step: str) -> Iterable[Any] | None:
    if step == "[]":
        return value if type(value) is list else None
    if type(value) is not dict:
        return None
    if step == "{}":
        return list(value.values())
    return [value[step]] if step in value else None


def _kind(value: Any) -> str:
    return {"list": "a list", "str": "text", "dict": "an object"}.get(type(value).__name__, "a plain value")


def check_is_list(file: SourceFile, chunks: Iterable[bytes], whole: Iterable[bytes]) -> None:
    """Raises InputError where a JSON document is one object, and says which `--field` to type.

    `chunks` and `whole` are its text twice, of which `whole` is read only to look into the object.
    """
    head, _ = without_bom(chunks)
    if next((text[:1] for text in (part.lstrip() for part in head) if text), b"") != b"{":
        return
    try:
        parts, _ = without_bom(whole)
        hint = _where_records_may_be(parse_value(b"".join(parts)))
    except RowError as error:
        at = Location(file.shown, line=error.at.line, byte=error.at.byte)
        several = "follows the end" in error.message
        hint = f"several values go on a line each: jq -c . {file.shown}" if several else ""
        raise InputError(error.message, hint=hint, code=error.code, at=at) from None
    raise InputError("this is one JSON object, not records", code="json.document", at=Location(file.shown), hint=hint)


def _where_records_may_be(document: Any) -> str:
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
