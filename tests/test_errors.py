"""The tree of errors: drawn whole, picklable, located."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from chatfmt import errors
from chatfmt.errors import ChatfmtError, InputError, Location, MissingExtra, RowError, UnknownName, UsageError, located


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
    assert (str(error), error.hint) == ("the package `ray` is not installed", 'pip install "chatfmt[ray]"')
