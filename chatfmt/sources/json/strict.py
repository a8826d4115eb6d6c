"""Strict JSON (RFC 8259): nothing is coerced, nothing is lost.

`jiter` parses the text with its strict flags; numbers beyond a double, depth and values other than objects are checked
here. Integers of up to 4,300 digits are exact, and the order of keys is kept. Errors are: a duplicate key, NaN and
infinities, lone surrogates, invalid UTF-8, trailing commas, and nesting deeper than 128 levels.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import jiter

from ...errors import Location, RowError

DEPTH = 128
BOM = b"\xef\xbb\xbf"


def parse_object(raw: bytes) -> dict[str, Any]:
    """Parse an object; `at.byte` and `at.line` of an error count from the beginning of `raw` (byte 0, line 1).

    A list of objects is a bare conversation: it becomes the object `{"messages": […]}`.
    """
    value = parse_value(raw)
    if type(value) is not dict:
        named = as_record(value)
        if named is None:
            raise _not_object(value)
        return named
    return value


def as_record(value: Any) -> dict[str, Any] | None:
    """The record for a JSON value: an object as it is, a list of objects as `messages`; None for other values."""
    if type(value) is dict:
        return value
    turns = type(value) is list and value and all(type(item) is dict for item in value)
    return {"messages": value} if turns else None


def parse_value(raw: bytes) -> Any:
    """Parse a JSON value, with optional whitespace around it. Raises RowError with a `json.` code."""
    value = parse_syntax(raw)
    check_value(value)
    return value


def parse_syntax(raw: bytes) -> Any:
    """Parse a JSON value without checking depth and the range of numbers."""
    try:
        return jiter.from_json(raw, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        raise _explained(raw, str(error)) from None


def is_shallow(raw: bytes) -> bool:
    """Return whether `raw` has too few brackets to be nested too deeply, so the depth need not be checked."""
    return raw.count(b"[") + raw.count(b"{") <= DEPTH


def check_value(value: Any) -> None:
    """Raise RowError for a number that is not finite, and for nesting deeper than 128 levels."""
    level = [value]
    for _ in range(DEPTH):
        items = [inner for item in level for inner in _inner(item)]
        if any(type(item) is float and not math.isfinite(item) for item in items):
            raise RowError("a number out of the range of a double", code="json.number")
        level = [item for item in items if type(item) in (dict, list)]
        if not level:
            return
    raise RowError(f"nested deeper than {DEPTH} levels", code="json.depth")


def _inner(value: Any) -> Any:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else ()


def _not_object(value: Any) -> RowError:
    kind = "an empty list" if value == [] else _KINDS.get(type(value), "a number")
    written = type(value) is str and value.lstrip().startswith("{")
    what, program = ("read the JSON in them", "fromjson") if written else ("make objects of them", "{text: .}")
    hint = f"{what}: {JQ_ITEMS} | {program}' FILE > rows.jsonl" if type(value) is str else ""
    return RowError(f"the record is {kind}, not an object", code="json.not_object", hint=hint,
                    at=Location(line=1, byte=0))  # fmt: skip


JQ_ITEMS = 'jq -c \'if type == "array" then .[] else . end'
"""The start of a command that makes objects of texts, on lines or in an array."""


_KINDS: dict[type, str] = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
_PLACE = re.compile(r" at line (\d+) column (\d+)$")
_REASONS: tuple[tuple[str, str, str], ...] = (
    (r"Detected duplicate key (?P<key>.*)", "json.duplicate_key", "the key {key} appears twice"),
    (r"unexpected end of hex escape|lone leading surrogate.*", "json.surrogate", "half of a surrogate pair"),
    (r"invalid unicode code point", "json.encoding", "invalid UTF-8"),
    (r"recursion limit exceeded", "json.depth", f"nested deeper than {DEPTH} levels"),
    (r"invalid number|number out of range", "json.number", "{error}"),
    (r"trailing characters", "json.syntax", "extra data after the value, and no comma before it"),
    (r"control character.*", "json.syntax", "a control character inside a string"),
    (r"expected value", "json.syntax", "not JSON: expected a value"),
    (r"expected ident", "json.syntax", "not JSON: expected `true`, `false` or `null`"),
    (r"EOF while parsing .*", "json.syntax", "not JSON: unexpected end"),
    (r"key must be a string", "json.syntax", "not JSON: a key without double quotes"),
)
PLAIN_TEXT = "for lines of plain text: `--no-header --no-quote --delimiter none --map text=column1`"


def _explained(raw: bytes, error: str) -> RowError:
    """The RowError for an error of jiter, with the position in `raw`."""
    place = _PLACE.search(error)
    line, column = (int(place[1]), int(place[2])) if place else (1, 1)
    text = error[: place.start()] if place else error
    byte = _offset(raw, line, column)
    code, message = _reason(raw, text, byte)
    if not raw.strip():
        message = "not JSON: nothing between two commas, or between a comma and the end of the list"
    hint = PLAIN_TEXT if (byte == 0 or raw[:1] == b"[") and _is_plain_text(raw) else ""
    return RowError(message, code=code, hint=hint, at=Location(line=line, byte=byte))


def _is_plain_text(raw: bytes) -> bool:
    """Whether the record looks like a line of prose, and not like JSON or binary data."""
    head = raw[:200].decode(errors="ignore")
    prose = head[:1] == "[" and not is_list_start(head)
    return (head[:1] not in ("", "{", "[", '"', "'") or prose) and head.replace("\t", "").rstrip("\r").isprintable()


_JSON_LIST = re.compile(r'\[\s*(?:$|[\[{"\]]|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\s*[,\]]|true|false|null)')


def is_list_start(text: str) -> bool:
    """Return whether text begins as a JSON list does, as far as its first value."""
    return _JSON_LIST.match(text) is not None


def _offset(raw: bytes, line: int, column: int) -> int:
    start = 0
    for _ in range(line - 1):
        start = raw.find(b"\n", start) + 1
    return min(max(start + column - 1, 0), len(raw))


_NO_NUMBER = re.compile(rb"-?(NaN|Infinity|inf|nan)")


def _reason(raw: bytes, text: str, byte: int) -> tuple[str, str]:
    if raw[byte : byte + 3] == BOM:
        return "json.encoding", "a byte order mark inside the file"
    if (number := _NO_NUMBER.match(raw, byte)) or raw[byte - 1 : byte + 1] == b"-I":
        shown = number[0].decode() if number else "-Infinity"
        return "json.number", f"`{shown}` is not JSON"
    return _reason_of(text)


@lru_cache(maxsize=64)
def _reason_of(text: str) -> tuple[str, str]:
    for pattern, code, message in _REASONS:
        if found := re.fullmatch(pattern, text):
            key = _UNUSUAL.sub(_character, found.groupdict().get("key", "")[1:-1])
            return code, message.format(error=text, key=f"`{key}`")
    return "json.syntax", f"not JSON: {text}"


_UNUSUAL = re.compile(r"\\(?:u\{([0-9a-f]+)\}|(.))")
_NAMED = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}


def _character(escape: re.Match[str]) -> str:
    """The character of an escape in Rust syntax, as jiter writes it."""
    return chr(int(escape[1], 16)) if escape[1] else _NAMED.get(escape[2], escape[2])
