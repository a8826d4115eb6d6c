"""Texts whose escapes are copied from the source give the bytes that escaping them again gives, whatever the source."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.errors import RenderError
from chatfmt.escaped_texts import EscapedTexts, Positions, known_lines, known_texts, remember
from chatfmt.rendering import ConversationBatch
from chatfmt.sources.json import strings
from chatfmt.sources.json.uniform_lines import line_ends, uniform_fields
from chatfmt.writers.json_lines import json_lines

from .conftest import from_lines, run_cli, succeed
from .render.engines import traced

LONG = "".join(map(chr, range(32)))
HOSTILE = [
    "", " ", "\n", "\\", '"', '\\"', '\\\\"', "\\" * 7 + '"', "/", "\\/", "\\u0041", "\0", "\x1b[0m", "\x7f", LONG,
    "\u0085\u2028\u2029", "é", "日", "😀", "\ue000", "\uffff", "\ufeff", '", "role": "', '"}, {"content": "', "}]}\n{",
    " \t\n x \r\n ", "</think>", "<think>\n</think>\n\n", "null", "a\u0301",
]  # fmt: skip
text = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=4), max_size=4).map("".join)
seeds = st.randoms(use_true_random=False)


def characters(text: str, chance: random.Random | None) -> str:
    """The JSON form of a text: that of orjson, or with `chance` one in which each character is written in any way."""
    plain = orjson.dumps(text).decode()[1:-1]
    if chance is None:
        return plain
    return "".join(chance.choice([orjson.dumps(one).decode()[1:-1], *others(one)]) for one in text)


def others(one: str) -> list[str]:
    units = one.encode("utf-16-be")
    codes = [f"{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2)]
    forms = ["".join(f"\\u{code}" for code in codes), "".join(f"\\u{code.upper()}" for code in codes)]
    return [*forms, "\\/"] if one == "/" else forms


def lines(
    rows: list[list[str]], chance: random.Random | None = None, keys: tuple[str, str] = ("role", "content")
) -> bytes:
    """JSON Lines of conversations with these contents."""
    found = []
    for contents in rows:
        turns = []
        for number, content in enumerate(contents):
            values = {"role": "user" if number % 2 == 0 else "assistant", "content": characters(content, chance)}
            turns.append("{" + ", ".join(f'"{key}": "{values[key]}"' for key in keys) + "}")
        found.append('{"messages": [' + ", ".join(turns) + "]}\n")
    return "".join(found).encode()


def read(block: bytes) -> pa.ListArray:
    fields = uniform_fields(block, line_ends(block))
    assert fields is not None
    return fields["messages"]


def contents_of(messages: pa.ListArray) -> pa.StringArray:
    return messages.flatten().field("content")


def content_of(block: bytes, tile: int = 64) -> EscapedTexts:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strings, "_TILE", tile)
        patch.setattr(strings, "_MANY", 1)
        known = known_texts(contents_of(read(block)).buffers()[2])
    assert known is not None
    return known


def places(known: EscapedTexts) -> Positions:
    """Where each text is found, from its place in memory."""
    _, offsets, _ = known.texts.buffers()
    edges = np.frombuffer(offsets, np.int32)[: len(known.texts) + 1].astype(np.int64)
    return known.find(edges[:-1], edges[1:])


def plain_lines(texts: pa.StringArray) -> bytes:
    return b"".join(b'{"text":' + orjson.dumps(text) + b"}\n" for text in texts.to_pylist())


@given(contents=st.lists(text, min_size=1, max_size=5), chance=st.none() | seeds, tile=st.integers(1, 9))
def test_a_text_is_found_if_the_source_has_the_bytes_that_would_be_written(
    contents: list[str], chance: random.Random | None, tile: int
) -> None:
    known = content_of(lines([contents], chance), tile)
    assert known.texts.to_pylist() == contents
    forms = [known.source[start:stop] for start, stop in zip(known.starts, known.stops, strict=True)]
    assert [json.loads(b'"' + form + b'"') for form in forms] == contents
    for form, content, index in zip(forms, contents, places(known).tolist(), strict=True):
        copied = form if form == orjson.dumps(content)[1:-1] else None
        assert not form or (None if index < 0 else forms[index]) == copied  # no text at all has no place of its own


def test_capitals_in_the_number_of_a_control_character_are_not_found() -> None:
    for form, exact in (
        ("\\u001b", True), ("\\u001B", False), ("\\u0008", False), ("\\u0007", True), ("\\u007f", False),
        ("\\\\u0041", True), ("\\\\\\u0041", False), ("\\/", False), ("\\\\/", True), ("/", True), ("\\u1000", False),
        ("\\u0010", True), ("\\u00e9", False), ("\\u001f\\u0041", False),
    ):  # fmt: skip
        known = content_of(lines([["x", "y"]]).replace(b'"x"', f'"{form}"'.encode()))
        assert places(known).tolist() == [0 if exact else -1, 1], form


TEMPLATES = {
    "whole": '{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"</e>\n{% endfor %}',
    "stripped": "{% for m in messages %}{{ m.role }}\t{{ m.content | trim }}\\{% endfor %}",
    "twice": "{{ messages[0].content }}{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}é",
    "part": "{% for m in messages %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}|{% endfor %}",
}


@given(
    rows=st.lists(st.lists(text, min_size=1, max_size=3), min_size=1, max_size=4),
    chance=st.none() | seeds,
    name=st.sampled_from([*TEMPLATES]),
    keys=st.sampled_from([("role", "content"), ("content", "role")]),
)
def test_lines_are_those_of_the_texts(
    rows: list[list[str]], chance: random.Random | None, name: str, keys: tuple[str, str]
) -> None:
    messages = read(lines(rows * 3, chance, keys))
    found = traced(TEMPLATES[name])(ConversationBatch(messages)).text
    assert b"".join(map(bytes, json_lines(pa.record_batch({"text": found})))) == plain_lines(found)


def test_lines_of_whole_texts_are_copied() -> None:
    whole, padded = [['a "b"', "\\c\x1b"], ["é", ""]] * 8, [["a\n", "\tb"], [" c ", "d\n"]] * 8
    for name, rows, chance, copied in (
        ("whole", padded, None, True), ("twice", whole, None, True), ("stripped", whole, None, True),
        ("stripped", [*whole, *padded[:2]], None, True), ("stripped", padded, None, False),
        ("whole", whole, random.Random(1), False),
    ):  # fmt: skip
        messages = read(lines(rows, chance))
        found = traced(TEMPLATES[name])(ConversationBatch(messages)).text
        between = known_lines(found, b"|")
        assert (between is not None) is copied, (name, rows)
        if between is not None:
            assert bytes(between) == b"".join(b"|" + orjson.dumps(text)[1:-1] for text in found.to_pylist())


def test_other_texts_than_the_last_are_not_known() -> None:
    messages = read(lines([["a", "b"]] * 8))
    renderer = traced(TEMPLATES["whole"])
    found = renderer(ConversationBatch(messages)).text
    assert known_lines(found.slice(1), b"|") is None
    assert known_lines(pa.array(found.to_pylist()), b"|") is None
    assert known_lines(found, b"|") is not None
    kept = renderer(ConversationBatch(messages.take(pa.array([0])))).text
    assert known_lines(kept, b"|") is None
    remember(())
    assert known_lines(found, b"|") is None and known_texts(contents_of(messages).buffers()[2]) is None


def test_lines_are_copied_without_those_of_rows_that_the_template_refuses() -> None:
    odd = "{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}" + TEMPLATES["whole"]
    rows = [['a "b"', "c"], ["d", "\te", "f"], ['"g"', "h\n"]] * 8
    failures = list[RenderError]()
    rendered = traced(odd)(ConversationBatch(read(lines(rows))), failures=failures)
    (error,) = failures
    assert (error.message, error.rows) == ("too long", (*range(1, 24, 3),))
    assert rendered.text.to_pylist()[1::3] == [None] * 8
    good = rendered.take(pa.array([row for row in range(24) if row % 3 != 1])).text
    assert good.equals(rendered.text.drop_null()) and known_lines(rendered.text, b"|") is None
    copied = known_lines(good, b"|")
    assert copied is not None
    assert bytes(copied) == b"".join(b"|" + orjson.dumps(text)[1:-1] for text in good.to_pylist())
    assert rendered.take(pa.array([2, 0])).text.to_pylist() == [good[1].as_py(), good[0].as_py()]


@pytest.mark.parametrize("template", ["chatml", "llama-3.1"])
def test_sources_that_escape_in_other_ways_give_the_same_bytes(tmp_path: Path, template: str) -> None:
    rows = [
        [f"{row} {HOSTILE[row % len(HOSTILE)]} x" * 9, f'"{row}" ' + HOSTILE[-row % len(HOSTILE)]] for row in range(300)
    ]
    rows = [[content.replace("\ue000", "").replace("<think>", "") for content in contents] for contents in rows]
    ways: dict[str, Any] = {"exact": None, "any": random.Random(0)}
    for name, chance in ways.items():
        (tmp_path / f"{name}.jsonl").write_bytes(lines(rows, chance))
        succeed(run_cli("convert", tmp_path / f"{name}.jsonl", "-t", template, "-o", tmp_path / f"out-{name}.jsonl"))
    exact, other = ((tmp_path / f"out-{name}.jsonl").read_bytes() for name in ways)
    assert exact == other and exact.count(b"\n") == len(rows)
    assert from_lines(exact)
