"""Find the columns that a Jinja template or expression over the row reads."""

from __future__ import annotations

from collections.abc import Iterator

import jinja2
from jinja2 import meta, nodes
from jinja2.defaults import DEFAULT_NAMESPACE

ROW_NAME = "row"
"""The name of the row itself, for columns whose name is not an identifier: `row['first name']`."""
_GLOBALS = frozenset({*DEFAULT_NAMESPACE, "raise_exception", "strftime_now", ROW_NAME})
_GUARDS = frozenset({"defined", "undefined", "none", "default", "d"})


def names_needed(text: str, *, expression: bool) -> set[str]:
    """Return the names that are read without a guard; empty if the text does not parse, which its compiler reports.

    A guard tests whether the name exists: `x is defined`, `x is none`, `x | default('')`, `{% if x %}` in a template.
    """
    source = "{{ (" + text + ") }}" if expression and "{{" not in text and "{%" not in text else text
    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source)
    except jinja2.TemplateSyntaxError:
        return set()
    return meta.find_undeclared_variables(tree) - _GLOBALS - set(_guarded(tree))


def _guarded(tree: nodes.Template) -> Iterator[str]:
    for guard in tree.find_all((nodes.Test, nodes.Filter)):
        if guard.name in _GUARDS and isinstance(guard.node, nodes.Name):
            yield guard.node.name
    tests = [*(branch.test for branch in tree.find_all(nodes.If)), *(one.test for one in tree.find_all(nodes.CondExpr))]
    for test in tests:
        yield from (name.name for name in ([test] if isinstance(test, nodes.Name) else test.find_all(nodes.Name)))
