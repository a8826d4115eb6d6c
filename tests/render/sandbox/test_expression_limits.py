"""Expressions of `--where` and `--map` have the refusals and the limits of chat templates."""

from __future__ import annotations

import json

import pytest

from chatfmt.errors import RowError, UsageError
from chatfmt.render.sandbox.expressions import expression, text_expression
from tests.conftest import run_cli, write_rows

RANDOM = "to sample rows: --fraction 0.1, to order them at random: --shuffle"


@pytest.mark.parametrize(
    ("compile", "source", "name"),
    [
        (expression, "[1, 2]|random == 1", "random"),
        (expression, "lipsum() == x", "lipsum"),
        (text_expression, "{{ x|list|random }}", "random"),
        (expression, "{% if lipsum(n=1) %}1{% endif %}", "lipsum"),
    ],
)
def test_randomness_is_refused(compile, source, name):
    with pytest.raises(UsageError) as caught:
        compile(source)
    message = f"the expression `{source}` uses `{name}`, so that its value differs from run to run"
    assert (str(caught.value), caught.value.hint) == (message, RANDOM)


@pytest.mark.parametrize("source", ["(" * 5000 + "x" + ")" * 5000, "-" * 5000 + "x", "{{ " + "-" * 5000 + "x }}"])
def test_deep_nesting_is_refused(source):
    with pytest.raises(UsageError, match="is nested too deeply$"):
        expression(source)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("x" + " or x" * 60_000, "is longer than 250,000 characters"),
        ("x < " + "9" * 5000, "holds a number that is too long"),
        ("x < 0x" + "f" * 20_000, "holds a number that is too long"),
        ("{{ " + "9" * 5000 + " }}", "holds a number that is too long"),
    ],
)
def test_long_expressions_are_refused_before_rows_are_read(tmp_path, source, problem):
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    write_rows(tmp_path / "in.jsonl", [{"messages": turns}])
    (tmp_path / "r.yaml").write_text(json.dumps({"source": "in.jsonl", "where": source}))
    found = run_cli("convert", "r.yaml", "-o", "out.jsonl", cwd=tmp_path)
    error = f"error: in.jsonl: the expression `{source[:40]}…` {problem}"
    assert (found.returncode, found.stderr.decode().splitlines()) == (2, [error, "hint: write a shorter one"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "r.yaml"]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("7|round(-99999999)", "the template makes more than 4,096 digits of a number"),
        ("9 ** 99999999", "the template makes more than 4,096 bits of a number"),
        ("'a' * 99999999999", "the template makes more than 8,000,000 characters"),
        ("range(99999999)|list|length", "the template counts to more than 10,000"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
         "the template takes more than 1,000,000 steps"),
    ],
)  # fmt: skip
def test_costly_expressions_are_errors_of_the_row(source, problem):
    evaluate = expression(source)
    for _ in range(2):  # each row has the whole limit
        with pytest.raises(RowError) as caught:
            evaluate({"x": 1})
        assert str(caught.value) == f"the expression `{source}` fails: {problem}"
        assert caught.value.hint == "write an expression that does less, or --on-error skip leaves such rows out"
    assert expression("x|round(1) == 0.1 and range(9999)|length == 9999")({"x": 0.12}) is True


def test_addresses_are_refused_and_data_that_looks_like_one_is_not():
    for source in ("{{ joiner() }}", "joiner()|string"):
        with pytest.raises(RowError) as caught:
            expression(source)({})
        assert str(caught.value) == (
            f"the expression `{source}` gives the memory address of `<jinja2.utils.Joiner object>`, "
            "which differs from run to run"
        )
    row = {"x": "<A object at 0x7f0000000000>"}
    assert text_expression("{{ x }}!")(row) == row["x"] + "!"


def test_long_errors_are_cut():
    source = f"raise_exception(x) or '{'z' * 90_000}'"
    with pytest.raises(RowError) as caught:
        expression(source)({"x": "y" * 90_000})
    assert str(caught.value) == f"the expression `{source[:50_000]}…` fails: {'y' * 50_000}…"


def test_large_numbers_and_long_lists_that_are_printed_cost_no_more_than_they_are():
    source = (
        "{{ '{}, {x:>{}}'.format(99999999, 3, x=1) }} {{ '%s' % 99999999 }} {{ [[1], [2]]|sum(start=[])|join(d='/') }}"
    )
    assert text_expression(source)({}) == "99999999,   1 99999999 1/2"
    assert text_expression("{{ ('{a}'|safe).format(a='<') }}{{ '{a}'.format_map({'a': 1}) }}")({}) == "&lt;1"
