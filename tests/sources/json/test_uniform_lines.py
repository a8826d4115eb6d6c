"""The fast reader against the strict parser: whatever it accepts is the same, down to the column types."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatfmt.errors import RowError
from chatfmt.json_columns import encode_objects
from chatfmt.sources.json.strict import parse_object
from chatfmt.sources.json.uniform_lines import line_ends, uniform_fields

PIECES = [
    b'"', b"\\", b"\\\\", b'\\"', b"\\n", b"\\u00e9", b"\\ud83d\\ude00", b"\\ud800", b"\\udc00", b"\\u12",
    b"\\/", b"\\x",
    b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"\r", b"\t", b"\0", b"\x7f", b"},{", b"}],", b"}]}", b": [{",
    b"}\n{", b"[]", b"null", b"1", b"a", b'"a"', b'"role"', b'"content"', "é".encode(), "日".encode(), b"\xff",
    b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b'"#keys"', b'"#row"', b"\xef\xbb\xbf",
]  # fmt: skip


def strictly(block: bytes) -> list[dict[str, Any]] | None:
    """The records of the lines of `block`, None where one is bad."""
    lines = block.split(b"\n")
    try:
        return [parse_object(line) for line in (lines[:-1] if not lines[-1] else lines)]
    except RowError:
        return None


def check(block: bytes) -> bool:
    """Whether the block was accepted; fails where that is wrong, or the result is another."""
    found = uniform_fields(block, line_ends(block))
    if found is None:
        return False
    rows = strictly(block)
    assert rows is not None, block
    want = encode_objects(rows)
    assert list(found) == list(want), block
    for name, column in found.items():
        column.validate(full=True)
        assert column.type == want[name].type and column.equals(want[name]), (block, name)
    return True


text = st.text(alphabet=st.sampled_from('ab"\\/\n\t\b é日😀\u2028\x7f{}[],:')) | st.text()
names = st.lists(st.sampled_from(["messages", "source", "id", "x", "text", ""]), unique=True, min_size=1, max_size=3)
fields = st.lists(st.sampled_from(["role", "content", "name"]), unique=True, min_size=1, max_size=3)


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    shape = {name: draw(st.none() | fields) for name in draw(names)}
    rows = [
        {
            name: draw(text) if keys is None else [
                {key: draw(text) for key in keys} for _ in range(draw(st.integers(1, 3)))
            ]
            for name, keys in shape.items()
        }
        for _ in range(draw(st.integers(1, 4)))
    ]  # fmt: skip
    form = draw(
        st.sampled_from([{}, {"ensure_ascii": False}, {"separators": (",", ":")}, {"separators": (" , ", " : ")}])
    )
    end = draw(st.sampled_from(["", "\n"]))
    return ("\n".join(json.dumps(row, **form) for row in rows) + end).encode()


@given(block=blocks())
def test_uniform_blocks_are_accepted(block: bytes) -> None:
    assert check(block)


def test_long_lines_and_long_blocks_are_accepted() -> None:
    rows = [
        {"messages": [{"role": "user", "content": f'{row} "é" ' * size}]} for row, size in enumerate([99, 90_000] * 2)
    ]
    for more in (rows, rows[:1] * 1800):
        block = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in more).encode()
        assert len(block) > 1 << 20 and check(block)


@given(block=blocks(), data=st.data())
def test_damaged_blocks_match_the_strict_parser(block: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(block)))
        stop = data.draw(st.integers(place, min(len(block), place + 4)))
        block = block[:place] + data.draw(st.sampled_from(PIECES)) + block[stop:]
    check(block)


def fuzz(rounds: int, seed: int) -> int:
    """How many of the blocks, put together and damaged at random, were accepted."""
    chance = random.Random(seed)
    accepted = 0
    for _ in range(rounds):
        keys = chance.sample(["role", "content", "x"], chance.randint(1, 3))
        pairs = [b", ".join(b'"%s": "%s"' % (key.encode(), some(chance)) for key in keys) for _ in "ab"]
        turns = b", ".join(b"{%s}" % pair for pair in pairs[: chance.randint(1, 2)])
        row = b'{"m": [%s], "s": "%s"}' % (turns, some(chance))
        block = b"\n".join([row] * chance.randint(1, 3)) + b"\n" * chance.randint(0, 1)
        for _ in range(chance.randint(0, 2)):
            place = chance.randrange(len(block) + 1)
            block = block[:place] + chance.choice(PIECES) + block[place + chance.randint(0, 3) :]
        accepted += check(block)
    return accepted


def some(chance: random.Random) -> bytes:
    return b"".join(chance.choice(PIECES + [b"x", b"yz", b"word "] * 8) for _ in range(chance.randint(0, 4)))


def test_random_damage() -> None:
    assert 100 < fuzz(3000, 1) < 2900


@pytest.mark.parametrize(
    "block",
    [b"", b"\n", b"{}", b"{}\n", b'{"a":1}', b'{"a":"x"', b'"', b'""', b'{"a":"x"}}', b'{"a":"x\\"}', b'{"a":"\\'],
)
def test_blocks_left_to_the_strict_parser(block: bytes) -> None:
    assert uniform_fields(block, line_ends(block)) is None


FIRST = b'{"m":[{"a":"1","b":"2"}],"s":"3"}\n'


@pytest.mark.parametrize(
    "block",
    [
        FIRST + b'{"m":[{"b":"2","a":"1"}],"s":"3"}\n',
        FIRST + b'{"s":"3","m":[{"a":"1","b":"2"}]}\n',
        FIRST + b'{"m":[{"a":"1"}],"s":"3"}\n',
        FIRST + b'{"m":[{"a":"1","b":null}],"s":"3"}\n',
        FIRST + b'{"m":null,"s":"3"}\n',
        FIRST + b'{"m":[{"a":"1","b":"2"}],"s":"3","s":"3"}\n',
        FIRST + b'{"m":[{"a":"1","b":"2"}],"s":"\xff"}\n',
        FIRST + b'{"m":[{"a":"1","b":"2"}],"s":"\\ud800"}\n',
        FIRST + b'{"m":[{"a":"1","b":"2"}],"s":3}\n',
        FIRST + FIRST.rstrip() + FIRST + b"\n",
        FIRST + b'{"m":[{"a":"1","b":"2"},\n{"a":"1","b":"2"}],"s":"3"}{"m":[],"s":""}\n',
        FIRST + b"\n",
        b'{"a\\\\":"a\\\\":","b":"x"}\n' + b'{"b":"x","a\\\\":"\\"a\\":"}\n',
    ],
)
def test_blocks_that_pyarrow_alone_would_misread_are_left_to_the_strict_parser(block: bytes) -> None:
    assert uniform_fields(block, line_ends(block)) is None


def test_lists_without_turns_and_names_on_both_levels_are_accepted() -> None:
    assert check(b'{"a":[{"b":"1","a":"2"}],"b":"3"}\n{"a":[],"b":"\\"a\\":"}\n{"a":[{"b":"","a":"{"}],"b":"}"}\n')


def test_texts_that_start_with_a_colon_or_hold_what_looks_like_a_key() -> None:
    rows = [{"a": text, "b": "", "c": text} for text in (":", " :", '"a":', '\\":', '"a":"', "a", "")]
    for separators in ((",", ":"), (", ", ": ")):
        assert check("".join(json.dumps(row, separators=separators) + "\n" for row in rows).encode())


def test_turns_that_are_nowhere_have_no_keys() -> None:
    first = b'{"m":[{"a":"1","b":"2","c":"3"}],"s":"3","t":""}\n'
    assert check(first + b'{"m":[],"s":"3","t":""}\n') and check(b'{"m":[],"s":"3","t":""}\n') is False
    swapped = [b'{"m":[{"a":"1","c":"3","b":"2"}],"s":"3","t":""}\n', b'{"m":[],"t":"","s":"3"}\n']
    assert [check(first + row) for row in swapped] == [False, False]
