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
_ENDS = {"first": 0, "last": -1}
"""Filters that give one item of a list."""


def names_needed(text: str, *, expression: bool) -> set[str]:
    """Return the names that are read without a guard; empty if the text does not parse, which its compiler reports.

    A guard tests whether the name exists: `x is defined`, `x is none`, `x | default('')`, `{% if x %}` in a template.
    """
    source = "{{ (" + text + ") }}" if expression and "{{" not in text and "{%" not in text else text
    tree = _parse(source)
    return set() if tree is None else meta.find_undeclared_variables(tree) - _GLOBALS - set(_guarded(tree))


def steps_read(text: str) -> list[tuple[str | int, ...]]:
    """Return the steps to each value that a template reads: `{{ a[0].b }}` reads `b` of the first item of `a`."""
    tree = _parse(text)
    return [] if tree is None else list(_steps_in(tree))


def _parse(source: str) -> nodes.Template | None:
    try:
        return jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source)
    except jinja2.TemplateSyntaxError:
        return None


def _steps_in(node: nodes.Node) -> Iterator[tuple[str | int, ...]]:
    steps = _steps_to(node)
    if steps:
        yield steps
    else:
        for child in node.iter_child_nodes():
            yield from _steps_in(child)


def _steps_to(node: nodes.Node | None) -> tuple[str | int, ...]:
    """Return the steps to the value of a node; none if it is not named by a column, keys and indices alone."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    step: object = None
    if isinstance(node, nodes.Getattr):
        step = node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, (nodes.Const, nodes.Neg)):
        step = node.arg.as_const()
    elif isinstance(node, nodes.Filter) and not node.args:
        step = _ENDS.get(node.name)
    before = _steps_to(getattr(node, "node", None)) if isinstance(step, (str, int)) else ()
    return (*before, step) if before and isinstance(step, (str, int)) else ()


def _guarded(tree: nodes.Template) -> Iterator[str]:
    for guard in tree.find_all((nodes.Test, nodes.Filter)):
        if guard.name in _GUARDS and isinstance(guard.node, nodes.Name):
            yield guard.node.name
    tests = [*(branch.test for branch in tree.find_all(nodes.If)), *(one.test for one in tree.find_all(nodes.CondExpr))]
    for test in tests:
        yield from (name.name for name in ([test] if isinstance(test, nodes.Name) else test.find_all(nodes.Name)))
