"""Symbolic numbers: they compare and compute like plain numbers, and record what was asked about the text."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Undefined

from chatfmt.render.trace.symbolic_numbers import SymbolicFloat, SymbolicInt, SymbolicLength, symbol_for, symbolic
from chatfmt.render.trace.symbols import POISONED_NUMBER, Symbol, Tape, TraceRefused

LEAF = ("leaf", ("messages", 0, "content"))
ORDERS: tuple[Callable[[Any, Any], Any], ...] = (
    operator.lt, operator.le, operator.eq, operator.ne, operator.ge, operator.gt,
)  # fmt: skip
SUMS: tuple[Callable[[Any, Any], Any], ...] = (operator.add, operator.sub)


def length_of(text: str) -> tuple[SymbolicLength, Tape]:
    tape = Tape()
    return SymbolicLength(Symbol(LEAF, text, tape)), tape


def number(value: float) -> tuple[Any, Tape]:
    tape = Tape()
    return symbol_for(LEAF[1], value, tape), tape


class TestLength:
    @given(st.text(max_size=6), st.integers(-2, 8), st.sampled_from(ORDERS))
    def test_comparisons_are_those_of_the_length_and_ask_only_for_bounds(
        self, text: str, constant: int, order: Callable[[Any, Any], Any]
    ) -> None:
        length, tape = length_of(text)
        assert order(length, constant) is order(len(text), constant)
        assert order(constant, length) is order(constant, len(text))
        assert {question[0] for question in tape.guards} <= {"length>"}
        assert all((len(text) > question[2]) is answer for question, answer in tape.guards.items())

    @pytest.mark.parametrize("order", [operator.gt, operator.ge])
    def test_a_bound_that_every_length_exceeds_is_not_asked(self, order: Callable[[Any, Any], Any]) -> None:
        length, tape = length_of("abc")
        assert order(length, -1)
        assert tape.guards == {}

    @given(st.text(max_size=6), st.integers(-9, 9), st.sampled_from(SUMS))
    def test_sums_and_differences_pin_the_length(
        self, text: str, constant: int, compute: Callable[[Any, Any], Any]
    ) -> None:
        for swapped in (False, True):
            length, tape = length_of(text)
            found = compute(constant, length) if swapped else compute(length, constant)
            assert found == (compute(constant, len(text)) if swapped else compute(len(text), constant))
            assert type(found) is int
            assert tape.guards == {("length", LEAF): len(text)}

    @pytest.mark.parametrize(
        ("use", "wanted"),
        [
            (str, "3"),
            (repr, "3"),
            (hash, hash(3)),
            (lambda length: length == 3.0, True),
            (lambda length: length != 2.5, True),
            (lambda length: length == "3", False),
            (lambda length: length == True, False),  # noqa: E712
        ],
    )
    def test_other_uses_pin_the_length(self, use: Callable[[Any], Any], wanted: Any) -> None:
        length, tape = length_of("abc")
        assert use(length) == wanted
        assert tape.guards == {("length", LEAF): 3}

    @pytest.mark.parametrize("text", ["", "abc"])
    def test_its_truth_is_that_of_the_text(self, text: str) -> None:
        length, tape = length_of(text)
        assert bool(length) is bool(text)
        assert tape.guards == {("true", LEAF): bool(text)}

    @pytest.mark.parametrize("order", [operator.lt, operator.le, operator.ge, operator.gt])
    @pytest.mark.parametrize("other", [2.5, True, "3", None])
    def test_an_order_with_anything_but_an_integer_is_refused(
        self, order: Callable[[Any, Any], Any], other: Any
    ) -> None:
        length, tape = length_of("abc")
        with pytest.raises(TraceRefused, match="compared with"):
            order(length, other)
        assert tape.guards == {}

    @pytest.mark.parametrize(
        "use",
        [
            lambda length: length * 2, lambda length: 2 * length, lambda length: length // 2,
            lambda length: length % 2, lambda length: length**2, lambda length: -length, float,
            lambda length: f"{length:d}", lambda length: length.bit_length(),
        ],
    )  # fmt: skip
    def test_every_other_operation_is_refused(self, use: Callable[[Any], Any]) -> None:
        length, tape = length_of("abc")
        with pytest.raises(TraceRefused):
            use(length)
        assert tape.guards == {}


class TestNumbers:
    def test_numbers_are_poisoned_and_keep_their_type(self) -> None:
        whole, _ = number(7)
        fraction, _ = number(2.5)
        assert type(whole) is SymbolicInt and int.__index__(whole) == POISONED_NUMBER
        assert type(fraction) is SymbolicFloat and float.hex(fraction) == float(POISONED_NUMBER).hex()
        assert type(symbol_for(LEAF[1], "text", Tape())) is Symbol

    @pytest.mark.parametrize("value", [0, 1, 7, 2.0, 2.5])
    @pytest.mark.parametrize("constant", [0, 1, 2, 7, True, False])
    def test_equality_with_a_constant_is_asked(self, value: float, constant: int) -> None:
        symbol, tape = number(value)
        assert (symbol == constant) is (value == constant)
        assert (symbol != constant) is (value != constant)
        assert tape.guards == {("is", LEAF, constant): value == constant}

    @pytest.mark.parametrize("value", [7, 2.5])
    def test_no_number_equals_a_text_or_none(self, value: float) -> None:
        symbol, tape = number(value)
        assert symbol != "7" and symbol != None  # noqa: E711
        assert tape.guards == {}

    @pytest.mark.parametrize("value", [7, 2.5])
    def test_equality_with_a_fraction_or_another_symbol_is_refused(self, value: float) -> None:
        symbol, tape = number(value)
        length, _ = length_of("abc")
        for other in (2.5, number(7)[0], number(2.5)[0], length, Symbol(LEAF, "7", tape)):
            with pytest.raises(TraceRefused, match="compared"):
                symbol == other  # noqa: B015
        assert tape.guards == {}

    @pytest.mark.parametrize("value", [0, 7, 0.0, 2.5])
    def test_truth_is_asked(self, value: float) -> None:
        symbol, tape = number(value)
        assert bool(symbol) is bool(value)
        assert tape.guards == {("true", LEAF): bool(value)}

    @pytest.mark.parametrize("value", [7, 2.5])
    def test_its_text_is_a_symbol(self, value: float) -> None:
        symbol, tape = number(value)
        printed = type(symbol).__str__(symbol)
        assert isinstance(printed, Symbol)
        assert printed == str(value)
        assert tape.guards == {("is", ("str", LEAF), str(value)): True}

    @pytest.mark.parametrize("value", [7, 2.5])
    def test_arithmetic_and_order_are_refused(self, value: float) -> None:
        symbol, tape = number(value)
        for use in (operator.add, operator.sub, operator.mul, operator.lt, operator.ge):
            with pytest.raises(TraceRefused):
                use(symbol, 1)
        with pytest.raises(TypeError, match="unhashable"):
            hash(symbol)
        assert tape.guards == {}


class TestSymbolic:
    @pytest.mark.parametrize("value", ["a", 1, 2.5, True, None, slice(0, 1), [], [1, ("a", {"b": None})], {"a": [0]}])
    def test_plain_data_holds_no_symbol(self, value: Any) -> None:
        assert not symbolic(value)

    def test_undefined_holds_no_symbol(self) -> None:
        assert not symbolic(Undefined())

    @pytest.mark.parametrize("make", [lambda value: Symbol(LEAF, value, Tape()), lambda value: length_of(value)[0],
                                      lambda value: number(7)[0], lambda value: number(2.5)[0],
                                      lambda value: Symbol(LEAF, value, Tape()).split()])  # fmt: skip
    def test_symbols_are_found_at_any_place(self, make: Callable[[str], Any]) -> None:
        symbol = make("abc")
        for value in (symbol, [1, symbol], ("a", [symbol]), {"key": {"deep": [symbol]}}):
            assert symbolic(value)

    @pytest.mark.parametrize("bounds", [lambda length: (length, None), lambda length: (None, length),
                                        lambda length: (None, None, length)])  # fmt: skip
    def test_symbols_are_found_in_slices(self, bounds: Callable[[Any], tuple[Any, ...]]) -> None:
        assert symbolic(slice(*bounds(length_of("abc")[0])))

    def test_unknown_objects_and_very_deep_data_may_hold_one(self) -> None:
        deep: list[Any] = []
        for _ in range(40):
            deep = [deep]
        assert symbolic(object()) and symbolic(iter("a")) and symbolic(deep)
        for _ in range(29):
            deep = deep[0]
        assert not symbolic(deep)
