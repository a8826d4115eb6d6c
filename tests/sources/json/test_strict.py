"""What the JSON readers reject, with reason, line and byte, and what they keep; more in `hostile/json_cases.py`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.errors import InputError, RowError
from chatfmt.sources import ParseOptions, read, read_stream
from chatfmt.sources.json.strict import PLAIN_TEXT, parse_object

from ..reading import bad_rows, pieces, read_all, rows_of, written

# Each line stands second in a file, after the line {"a":0}, which is 8 bytes with its end: code, line, byte.
BAD: dict[str, tuple[bytes, str, int, int]] = {
    "duplicate key": (b'{"a":1,"a":2}', "json.duplicate_key", 2, 19),
    "duplicate key, escaped": (b'{"a":1,"\\u0061":2}', "json.duplicate_key", 2, 24),
    "duplicate key, nested": (b'{"m":[{"role":"x","role":"y"}]}', "json.duplicate_key", 2, 33),
    "NaN": (b'{"a":NaN}', "json.number", 2, 13),
    "-Infinity": (b'{"a":-Infinity}', "json.number", 2, 14),
    "1e400": (b'{"a":1e400}', "json.number", 2, 8),
    "-1e400, nested": (b'{"a":[{"b":-1e400}]}', "json.number", 2, 8),
    "leading zero": (b'{"a":01}', "json.number", 2, 14),
    "no exponent": (b'{"a":1e}', "json.number", 2, 15),
    "5,000 digits": (b'{"a":' + b"9" * 5000 + b"}", "json.number", 2, 4314),
    "lone high surrogate": (b'{"a":"\\ud800"}', "json.surrogate", 2, 20),
    "lone low surrogate": (b'{"a":"\\udc00"}', "json.surrogate", 2, 19),
    "surrogate as raw bytes": (b'{"a":"\xed\xa0\x80"}', "json.encoding", 2, 14),
    "latin-1": (b'{"a":"caf\xe9"}', "json.encoding", 2, 17),
    "latin-1 in a key": (b'{"caf\xe9":1}', "json.encoding", 2, 13),
    "UTF-8 cut short": (b'{"a":"\xe2\x82"}', "json.encoding", 2, 14),
    "BOM inside the file": (b'\xef\xbb\xbf{"a":1}', "json.encoding", 2, 8),
    "two objects": (b'{"a":1} {"b":2}', "json.syntax", 2, 16),
    "lone CR between objects": (b'{"a":1}\r{"b":2}', "json.syntax", 2, 16),
    "trailing comma": (b'{"a":1,}', "json.syntax", 2, 15),
    "trailing comma in a list": (b'{"a":[1,]}', "json.syntax", 2, 16),
    "bare key": (b"{a:1}", "json.syntax", 2, 9),
    "cut": (b'{"a":1', "json.syntax", 2, 13),
    "cut in a string": (b'{"a":"x', "json.syntax", 2, 14),
    "tab in a string": (b'{"a":"x\ty"}', "json.syntax", 2, 15),
    "unknown escape": (b'{"a":"\\x41"}', "json.syntax", 2, 15),
    "short escape": (b'{"a":"\\u12"}', "json.syntax", 2, 18),
    "null": (b"null", "json.not_object", 2, 8),
    "a key of ours": (b'{"#row":1}', "json.key", 2, 8),
    "another key of ours": (b'{"a":1,"#keys":"x"}', "json.key", 2, 8),
    "depth 129": (b'{"a":' + b"[" * 128 + b"]" * 128 + b"}", "json.depth", 2, 8),
    "depth 100,000": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "json.depth", 2, 213),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_lines_have_a_reason_a_line_and_a_byte(name: str, tmp_path: Path) -> None:
    raw, code, line, byte = BAD[name]
    path = written(tmp_path, b'{"a":0}\n' + raw + b'\n\n{"a":2}\n')
    good, bad = bad_rows(path)
    assert (good, bad) == ([{"a": 0}, {"a": 2}], [(code, (1, line, byte), raw)])
    with pytest.raises(RowError) as caught:
        list(rows_of(read(pieces(path)[0])))
    assert (caught.value.code, caught.value.at.file, caught.value.exit_code) == (code, path, 4)


@pytest.mark.parametrize("name", BAD)
def test_the_same_in_an_array(name: str, tmp_path: Path) -> None:
    raw, code, _, byte = BAD[name]
    if name in ("cut in a string", "cut", "trailing comma in a list"):
        pytest.skip("in an array this is something else")
    path = written(tmp_path, b'[{"a":0},\n' + raw + b'\n,{"a":2}]', "x.json")
    good, bad = bad_rows(path)
    assert (good, bad) == ([{"a": 0}, {"a": 2}], [(code, (1, 2, byte + 2), raw)])


GOOD: dict[str, tuple[bytes, Any]] = {
    "integers of any size": (b'{"a":18446744073709551616,"b":-9223372036854775809}', {"a": 2**64, "b": -(2**63) - 1}),
    "escapes": (b'{"a":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u00e9\\ud83d\\ude00"}', {"a": '"\\/\b\f\n\r\t\0é😀'}),
    "a key of ours in a turn": (b'{"a":[{"#keys":"x","role":"y"}]}', {"a": [{"#keys": "x", "role": "y"}]}),
    "odd keys": (b'{"":1," ":2,"a.b":3,"#x":4}', {"": 1, " ": 2, "a.b": 3, "#x": 4}),
    "depth 128": (b'{"a":' + b"[" * 127 + b"]" * 127 + b"}", None),
    "many brackets, not deep": (b'{"a":[' + b"[]," * 500 + b"[]]}", {"a": [[]] * 501}),
    "nothing in it": (b"{}", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_lines_are_kept_exactly(name: str, tmp_path: Path) -> None:
    raw, value = GOOD[name]
    want = json.loads(raw) if value is None else value
    assert repr(read_all(written(tmp_path, raw))) == repr([want])
    assert repr(read_all(written(tmp_path, b'{"z":[]}\r\n' + raw + b"\r\n"))) == repr([{"z": []}, want])
    assert repr(read_all(written(tmp_path, b"\xef\xbb\xbf[" + raw + b"]\n", "x.json"))) == repr([want])


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
turn = st.dictionaries(st.sampled_from(["role", "content", "name", "tool_calls"]), st.text() | plain, max_size=4)
key = st.sampled_from(["messages", "a", "b", "prompt"]) | st.text(max_size=4).filter(
    lambda text: not text.startswith("#")
)
row = st.dictionaries(key, st.text() | plain | st.lists(turn, max_size=3), max_size=5)
style = st.sampled_from([{"ensure_ascii": True}, {"ensure_ascii": False}, {"separators": (",", ":")}, {"indent": 1}])


@given(rows=st.lists(row, max_size=12), batch=st.integers(1, 5), form=style)
def test_any_rows_come_back_as_the_slow_reader_has_them(rows: list[Any], batch: int, form: dict[str, Any]) -> None:
    options = ParseOptions(allow_empty=True)
    array = json.dumps(rows, **form).encode()
    want = repr(json.loads(array))
    assert repr(rows_of(read_stream(io.BytesIO(array), options=options, batch_rows=batch))) == want
    if "indent" not in form:
        lines = "".join(json.dumps(item, **form) + "\n" for item in rows).encode()
        assert repr(rows_of(read_stream(io.BytesIO(lines), options=options, batch_rows=batch))) == want
    for item in rows:
        assert repr(parse_object(json.dumps(item, **form).encode())) == repr(json.loads(json.dumps(item)))


_BEHIND = "data outside of the array of records"
# Files that are refused as a whole: content, name, code, and what is said.
FILES: dict[str, tuple[bytes, str, str, str]] = {
    "no Parquet": (b"\x07\x12\x90", "x.parquet", "file.not_data", "this does not begin like a Parquet file"),
    "no Arrow": (b"hello", "x.arrow", "file.not_data", "this does not begin like an Arrow file"),
    "a tar": (b"x" * 257 + b"ustar\x0000", "x.jsonl", "file.not_data", "this is a tar archive"),
    "an array that ends in a comma": (b'[{"a":1},', "x.json", "file.truncated", "the array does not end"),
    "a bracket too many": (b'[{"a":1}]]', "x.json", "json.syntax", _BEHIND),
    "text behind the array": (b'[{"a":1}] x', "x.json", "json.syntax", _BEHIND),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_rejected_files(name: str, tmp_path: Path) -> None:
    raw, file, code, message = FILES[name]
    path = written(tmp_path, raw, file)
    with pytest.raises(InputError) as caught:
        read_all(path)
    assert (caught.value.code, caught.value.message) == (code, message)
    assert str(caught.value).startswith(path) and caught.value.exit_code == 3


def test_bad_elements_of_an_array_are_reported_one_by_one(tmp_path: Path) -> None:
    good, bad = bad_rows(written(tmp_path, b'[{"a":1},,3,\n  {"a":2,},{"a":3},]', "x.json"))
    assert good == [{"a": 1}, {"a": 3}]
    assert bad == [
        ("json.syntax", (1, 1, 9), b""), ("json.not_object", (2, 1, 10), b"3"),
        ("json.syntax", (3, 2, 22), b'{"a":2,}'), ("json.syntax", (5, 2, 32), b""),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_a_record_that_is_too_long(name: str, tmp_path: Path) -> None:
    rows = [b'{"a":1}', b'{"a":"' + b"x" * 10_000_000 + b'"}', b'{"a":2}', b'{"a":"' + b"y" * 200 + b'"}']
    raw = b"\n".join(rows) if name == "x.jsonl" else b"[" + b",".join(rows) + b"]"
    good, bad = bad_rows(written(tmp_path, raw, name), ParseOptions(max_row_bytes=100))
    assert good == [{"a": 1}, {"a": 2}]
    assert [(code, place[0]) for code, place, _ in bad] == [("json.too_large", 1), ("json.too_large", 3)]


@pytest.mark.parametrize(
    ("raw", "message", "hint"),
    [
        (b"hello", "not JSON: expected a value", PLAIN_TEXT),
        (b"nothing", "not JSON: expected `true`, `false` or `null`", ""),
        (b"{'a': 1}", "not JSON: a key without double quotes", ""),
        (b'{"a": ', "not JSON: unexpected end", ""),
        (b"\x00\x01", "not JSON: expected a value", ""),
    ],
)
def test_messages_for_lines_that_are_not_json(raw: bytes, message: str, hint: str) -> None:
    with pytest.raises(RowError) as caught:
        parse_object(raw)
    assert (caught.value.message, caught.value.code) == (message, "json.syntax")
    assert hint == caught.value.hint
