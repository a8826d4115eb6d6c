"""The sandbox beyond what parity covers: the clock, plain data, spans, expressions, and what is not reproducible."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import threading
from collections import OrderedDict
from typing import Any

import jinja2
import numpy as np
import pytest

from chatfmt import recipe
from chatfmt.errors import RowError, UsageError
from chatfmt.render.jinja.determinism import find_address, random_names
from chatfmt.render.jinja.environment import compile_template
from chatfmt.render.jinja.inputs import context, normalise_messages, plain_data
from chatfmt.render.jinja.rendering import render_spans, render_text
from chatfmt.render.sandbox.expressions import expression, text_expression
from chatfmt.render.types import UNDATED

MESSAGES = [{"role": "user", "content": "hi"}]


class Color(str, enum.Enum):  # noqa: UP042 - its text differs from a StrEnum's
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Real(float):
    pass


@dataclasses.dataclass
class Point:
    x: Any
    y: Any


class Model:
    """As pydantic's models are."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def model_dump(self) -> dict[str, Any]:
        return self.values


OBJECTS = [
    Color.RED, Number.ONE, Real(2.5), True, None, 2**80, np.int64(3), np.float32(0.5), np.bool_(False), np.str_("x"),
    np.array([1]), np.datetime64("2024-01-01"), OrderedDict(a=(1, [Color.RED])), {Color.RED: {Number.ONE: b"x"}},
    Point(1, Point(datetime.date(2024, 1, 1), decimal.Decimal("1.0"))), Point,
    Model(name="m", when=datetime.date(2024, 1, 1)), {1, 2}, b"bytes", datetime.datetime(2024, 1, 1), range(3),
    "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_plain_data_is_that_of_transformers(value: Any):
    from transformers.utils import chat_template_utils

    wanted, found = chat_template_utils._plain_template_data(value), plain_data(value)
    assert repr(found) == repr(wanted)
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (datetime.date(2025, 7, 6), "06 Jul 2025 00:00:00"),
        (datetime.datetime(2025, 7, 6, 1, 2, 3), "06 Jul 2025 01:02:03"),
        (UNDATED, "26 Jul 2024 00:00:00"),
    ],
)
def test_the_clock_stands_still(now: datetime.date, text: str):
    assert render_text("{{ strftime_now('%d %b %Y %H:%M:%S') }}", MESSAGES, now=now) == text


def test_the_day_of_a_recipe_without_a_date_is_the_day_of_a_render_without_one():
    assert recipe.DEFAULT_DATE == UNDATED
    assert render_text("{{ strftime_now('%F') }}", MESSAGES) == "2024-07-26"
    assert compile_template("{{ strftime_now('%F') }}").render() == "2024-07-26"


def test_a_variable_may_not_take_the_name_of_an_input():
    for name in ("messages", "tools", "documents", "add_generation_prompt"):
        with pytest.raises(TypeError, match=f"^a template variable may not be named `{name}`$"):
            render_text("x", MESSAGES, variables={name: 1})


def test_variables_become_plain_data():
    assert context({"day": datetime.date(2024, 1, 1)}, UNDATED)["day"] == "<date>"


def test_the_messages_of_the_caller_are_left_alone():
    messages = [{"role": "assistant", "content": [{"type": "text", "text": "a"}], "reasoning": "r", "name": None}]
    before = repr(messages)
    assert render_text("{{ messages[0].content[0].text }}", messages, continue_final_message=True) == "a"
    assert repr(messages) == before
    assert normalise_messages(messages) == [
        {"thinking": "r", "role": "assistant", "content": [{"type": "text", "text": "a"}], "reasoning": "r",
         "reasoning_content": "r"}
    ]  # fmt: skip
    assert normalise_messages(messages)[0]["content"] is not messages[0]["content"]


def test_compiled_templates_are_kept():
    assert compile_template("{{ 1 }}") is compile_template("{{ 1 }}")
    assert compile_template("{{ 1 }}").environment is not compile_template("{{ 2 }}").environment


def test_spans_of_threads_do_not_mix():
    text = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}.{% endfor %}"
    found: dict[int, Any] = {}

    def render(size: int) -> None:
        for _ in range(50):
            found[size] = render_spans(text, [{"content": "x" * size}] * 20)[1]

    threads = [threading.Thread(target=render, args=(size,)) for size in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {size: [(turn * (size + 1), turn * (size + 1) + size) for turn in range(20)] for size in (1, 2, 3)}


def test_a_render_inside_no_tracking_has_no_spans():
    text = "{% generation %}{{ messages[0].content }}{% endgeneration %}"
    assert render_spans(text, MESSAGES) == ("hi", [(0, 2)])
    assert render_text(text, MESSAGES) == "hi"


ROW = {"score": 4, "lang": "en", "turns": [{"from": "human"}], "note": None}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("score > 3 and lang == 'en'", True),
        ("turns[0]['from']", "human"),
        ("missing", None),
        ("missing.key is defined", "error"),
        ("note", None),
        ("turns | length", 1),
        ("'%05d' % score", "00004"),
        ("[score, note]", [4, None]),
        ("score if missing", None),
        ("{{ lang }}", "en"),
    ],
)
def test_an_expression_gives_the_value_for_a_row(source: str, value: Any):
    if value == "error":
        with pytest.raises(RowError) as raised:
            expression(source)(ROW)
        assert str(raised.value) == "the expression `missing.key is defined` fails: 'missing' is undefined"
        assert raised.value.code == "expr.error"
    else:
        assert expression(source)(ROW) == value


def test_a_text_expression_writes_what_is_there_and_nothing_for_the_rest():
    source = "\n  {{ lang }}\n\n{{ note }}{{ missing }}{% if score %}\n {% endif %}{{ score }}\n"
    assert text_expression(source)(ROW) == "\n  en\n\n\n 4\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("score >", "the expression `score >` does not parse at character 7: unexpected 'end of template'"),
        ("score lang", "the expression `score lang` does not parse at character 6: something follows the expression"),
        ("(a", "the expression `(a` does not parse at character 2: unexpected end of template, expected ')'."),
        ("a $ b", "the expression `a $ b` does not parse: unexpected char '$' at 2"),
        ("", "the expression `` does not parse at character 0: unexpected 'end of template'"),
        ("a|nofilter", "the expression `a|nofilter` does not parse at character 10: No filter named 'nofilter'."),
        (
            "{{ a",
            "the expression `{{ a` does not parse: unexpected end of template, expected 'end of print statement'.",
        ),
    ],
)
def test_an_expression_that_does_not_parse_says_where(source: str, message: str):
    with pytest.raises(UsageError) as raised:
        expression(source)
    assert str(raised.value) == message
    assert raised.value.hint


def test_expressions_run_in_the_sandbox():
    for source in ("''.__class__.__mro__", "turns.append(1)", "{{ turns.append(1) }}"):
        with pytest.raises(RowError) as raised:
            expression(source)(ROW)
        assert isinstance(raised.value.__cause__, jinja2.exceptions.SecurityError)
    assert len(ROW["turns"]) == 1


def test_an_address_counts_only_where_no_input_holds_it():
    printed = render_text("{{ messages[0].items }}", MESSAGES)
    found = find_address(printed, MESSAGES)
    assert found == printed
    assert find_address(printed, [{"content": f"it printed {printed} once"}]) is None
    assert find_address("see <object object at 0x7f0011223344>", [{"k": "<object object at 0x7f0011223344>!"}]) is None
    assert find_address("no address at 0x12 <b>", MESSAGES) is None
    assert find_address('"<a \\"b\\" at 0x7f0011223344>"', [{"content": '<a "b" at 0x7f0011223344>'}]) is None
    assert (
        find_address("<b turn at 0x7f0011223344> end", [{"content": "<b"}, {"content": "at 0x7f0011223344> end"}])
        is None
    )


def test_random_names_are_found():
    assert random_names("{{ [1, 2] | random }}{{ lipsum() }}") == ("lipsum", "random")
    assert random_names("{{ random }}{{ messages }}") == ()
    assert random_names("{% for %}") == ()
