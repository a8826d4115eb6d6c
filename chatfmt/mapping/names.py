"""The names of columns that a Jinja template or expression over the row reads."""

from __future__ import annotations

from collections.abc import Iterator

import jinja2
from jinja2 import meta, nodes
from jinja2.defaults import DEFAULT_NAMESPACE

ROW_NAME = "row"
"""What the row itself is called, for columns whose name is no word: `row['first name']`."""
_GIVEN = frozenset({*DEFAULT_NAMESPACE, "raise_exception", "strftime_now", ROW_NAME})
_GUARDS = frozenset({"defined", "undefined", "none", "default", "d"})


def names_needed(text: str, *, expression: bool) -> set[str]:
    """The names that are read without a guard; none where the text does not parse.

    A name is guarded where the text asks whether it is there: `x is defined`, `x is none`, `x | default('')`, and in a
    template `{% if x %}`. Who compiles the text says what does not parse.
    """
    source = "{{ (" + text + ") }}" if expression and "{{" not in text and "{%" not in text else text
    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source)
    except jinja2.TemplateSyntaxError:
        return set()
    return meta.find_undeclared_variables(tree) - _GIVEN - set(_guarded(tree))


def _guarded(tree: nodes.Template) -> Iterator[str]:
    for asked in tree.find_all((nodes.Test, nodes.Filter)):
        if asked.name in _GUARDS and isinstance(asked.node, nodes.Name):
            yield asked.node.name
    tests = [*(branch.test for branch in tree.find_all(nodes.If)), *(one.test for one in tree.find_all(nodes.CondExpr))]
    for test in tests:
        yield from (name.name for name in ([test] if isinstance(test, nodes.Name) else test.find_all(nodes.Name)))
