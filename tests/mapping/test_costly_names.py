"""Names are found in expressions of strangers without computing what stands in them."""

from __future__ import annotations

import pytest

from chatfmt.mapping.names import names_needed, steps_read

COSTLY = [
    "10**10**10", "'a' * 10**11", "1|round(-99999999)", "'a'|center(10**11)", "[[0] * 9999] * 10**9", "-(10**10**10)",
    "'%99999999999s' % 'a'",
]  # fmt: skip


@pytest.mark.parametrize("costly", COSTLY)
def test_constants_are_not_computed(costly: str) -> None:
    """Each of these takes minutes or gigabytes."""
    assert names_needed(f"a and {costly}", expression=True) == {"a"}
    assert names_needed(costly, expression=True) == set()
    assert names_needed(f"{{{{ a }}}}{{{{ {costly} }}}}", expression=False) == {"a"}
    assert steps_read(f"{{{{ a[{costly}] }}}}") == [("a",)]
    assert steps_read(f"{{{{ a[-({costly})] }}}}") == [("a",)]


@pytest.mark.parametrize("text", ["(" * 5000 + "1" + ")" * 5000, "not " * 5000 + "a", "-" * 5000 + "a"])
def test_too_deep_to_be_parsed(text: str) -> None:
    assert names_needed(text, expression=True) == set()
    assert steps_read(f"{{{{ {text} }}}}") == []


def test_steps_with_constants() -> None:
    assert steps_read("{{ a[0].b['c'][-1] | first }}") == [("a", 0, "b", "c", -1, 0)]


@pytest.mark.parametrize("text", ["a is nonsense(1)", "a | nonsense"])
def test_an_unknown_test_or_filter_is_left_to_the_compiler(text: str) -> None:
    assert names_needed(text, expression=True) == set()
