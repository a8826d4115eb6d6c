"""Errors: the tree in the docstring is complete, all of them pickle, locations are stamped once."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from chatfmt import errors
from chatfmt.errors import (
    ChatfmtError,
    InputError,
    Location,
    MissingExtra,
    RowError,
    UnknownName,
    UsageError,
    edit_distance,
    located,
    nearest,
)  # fmt: skip


def tree(root: type[ChatfmtError] = ChatfmtError) -> Iterator[type[ChatfmtError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__.startswith("chatfmt."):
            yield from tree(child)


ALL = sorted(set(tree()), key=lambda c: c.__name__)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_errors_survive_pickling(kind):
    error = kind("no", hint="do this", at=Location("f.jsonl", row=3, message=1), code="msg.role")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.hint, again.at, again.code) == (
        kind, "f.jsonl row 3: no (message 1)", "do this", error.at, "msg.role",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_errors_are_drawn_in_the_tree_with_their_exit_code(kind):
    lines = [line for line in errors.__doc__.splitlines() if f" {kind.__name__} " in f" {line} "]
    assert len(lines) == 1
    codes = {"DataProblem": 1, "UsageError": 2, "InputError": 3, "RowError": 4, "OutputError": 5, "TemplateError": 6}
    expected = next((code for name, code in codes.items() if issubclass(kind, getattr(errors, name))), 1)
    assert kind.exit_code == expected


def test_located_turns_the_row_of_a_batch_into_the_source_row():
    with pytest.raises(RowError) as caught, located("b.jsonl", [40, 42, 43]):
        raise RowError("no", at=Location(row=1, message=2))
    assert str(caught.value) == "b.jsonl row 42: no (message 2)"


def test_located_fills_in_an_unknown_row_and_message():
    with pytest.raises(RowError) as caught, located(row=5), located(message=1):
        raise RowError("no")
    assert caught.value.at == Location(row=5, message=1)
    with pytest.raises(RowError) as caught, located(row=5, message=1):
        raise RowError("no", at=Location(row=0, message=2))
    assert caught.value.at == Location(row=0, message=2)


def test_an_error_about_the_command_gets_no_row():
    with pytest.raises(UsageError) as caught, located("a.jsonl"), located(row=5, message=1):
        raise UsageError("no")
    assert caught.value.at == Location("a.jsonl")


def test_the_innermost_location_wins():
    with pytest.raises(InputError) as caught, located("outer"), located("inner", [7]):
        raise InputError("no", at=Location(row=0))
    assert str(caught.value) == "inner row 7: no"


def test_an_unknown_name_hints_at_the_nearest():
    assert UnknownName.of("dialect", "sharegtp", ["messages", "sharegpt"]).hint == "did you mean `sharegpt`?"
    assert UnknownName.of("format", "x", ["parquet", "jsonl"]).hint == "one of: jsonl, parquet"


def test_a_missing_extra_says_what_to_install():
    error = MissingExtra.of("ray", "ray")
    hint = 'pip install "chatfmt[ray]"; in a checkout: pip install ".[ray]"'
    assert (str(error), error.hint) == ("the package `ray` is not installed", hint)


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [("chatlm", "chatml", 1), ("chatlm", "chatglm4", 2), ("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3)],
)
def test_edit_distance(one, other, count):
    assert edit_distance(one, other) == edit_distance(other, one) == count


def test_the_nearest_name_has_the_fewest_typos():
    assert nearest("chatlm", ["chatglm4", "chatml", "mistral"]) == ["chatml", "chatglm4"]


def test_a_location_fills_in_what_is_unknown():
    for at, expected in (
        (Location(), Location(row=5, message=2)),
        (Location(row=3), Location(row=3, message=2)),
        (Location(row=3, message=1), Location(row=3, message=1)),
    ):
        with pytest.raises(RowError) as caught, located(row=5, message=2):
            raise RowError("no", at=at)
        assert caught.value.at == expected
    with pytest.raises(UsageError) as about_the_command, located("f.jsonl", row=5, message=2):
        raise UsageError("no")
    assert about_the_command.value.at == Location("f.jsonl")


def test_a_location_within_a_text_counts_from_where_the_text_begins():
    error = RowError("no", at=Location(line=2, byte=30))
    error.locate(row=7, line=10, byte=400)
    assert error.at == Location(row=7, line=11, byte=430)
    error.locate("f.jsonl", [0] * 7 + [70])
    error.locate("g.jsonl", [1])
    assert error.at == Location("f.jsonl", row=70, line=11, byte=430)
