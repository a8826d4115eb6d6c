"""Find the columns that a Jinja template or expression over the row reads."""

from __future__ import annotations

from collections.abc import Iterator

import jinja2
from jinja2 import meta, nodes
from jinja2.defaults import DEFAULT_NAMESPACE

ROW_NAME = "row"
"""The name of the row itself, for columns whose name is not an identifier: `row['first name']`."""
_GLOBALS = frozenset({*DEFAULT_NAMESPACE, "raise_exception", "strftime_now", ROW_NAME})
MOST_SOURCE, MOST_LEVELS = 250_000, 100
"""The length in characters and the depth of what is looked at, those of `render.sandbox.limits`."""
_GUARDS = frozenset({"defined", "undefined", "none", "default", "d"})
_ENDS = {"first": 0, "last": -1}
"""Filters that give one item of a list."""


def names_needed(text: str, *, expression: bool) -> set[str]:
    """Return the names that are read without a guard; empty if the text does not parse, which its compiler reports.

    A guard tests whether the name exists: `x is defined`, `x is none`, `x | default('')`, `{% if x %}` in a template.
    """
    tree = _parse(_braced(text) if expression else text)
    return set() if tree is None else _undeclared(tree) - _GLOBALS - set(_guarded(tree))


def reads_nothing(expression: str) -> bool:
    """Return whether an expression names no column and not `row`, so that it has one value for all rows."""
    tree = _parse(_braced(expression))
    return tree is not None and all(name.name in DEFAULT_NAMESPACE for name in tree.find_all(nodes.Name))


def _braced(expression: str) -> str:
    return expression if "{{" in expression or "{%" in expression else "{{ (" + expression + ") }}"


def _undeclared(tree: nodes.Template) -> set[str]:
    """Return what `meta.find_undeclared_variables` does, which computes constants such as `10**10**9` on its way."""
    assert tree.environment is not None
    generator = meta.TrackingCodeGenerator(tree.environment)
    generator.optimizer = None
    try:
        generator.visit(tree)
    except (jinja2.TemplateAssertionError, RecursionError, ValueError):  # its compiler reports it
        return set()
    return generator.undeclared_identifiers


def steps_read(text: str) -> list[tuple[str | int, ...]]:
    """Return the steps to each value that a template reads: `{{ a[0].b }}` reads `b` of the first item of `a`."""
    tree = _parse(text)
    found = [] if tree is None else list(_steps_in(tree))
    return [steps[1:] or steps if steps[0] == ROW_NAME else steps for steps in found]


@jinja2.pass_context
def _unchanged(context: jinja2.runtime.Context, value: object) -> object:
    return value


def _parse(source: str) -> nodes.Template | None:
    """Parse; code for the tree can be generated without computing constants, since `finalize` needs the context.

    None for what does not parse, and for what the compiler refuses as too long or nested too deeply.
    """
    if len(source) > MOST_SOURCE:
        return None
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"], finalize=_unchanged)
    try:
        tree = environment.parse(source)
    except (jinja2.TemplateSyntaxError, RecursionError, ValueError):  # ValueError: more digits than Python reads
        return None
    level: list[nodes.Node] = [tree]
    for _ in range(MOST_LEVELS):
        level = [child for node in level for child in node.iter_child_nodes()]
    return None if level else tree


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
    elif isinstance(node, nodes.Getitem) and _is_plain(node.arg):
        step = node.arg.as_const()
    elif isinstance(node, nodes.Filter) and not node.args:
        step = _ENDS.get(node.name)
    before = _steps_to(getattr(node, "node", None)) if isinstance(step, (str, int)) else ()
    return (*before, step) if before and isinstance(step, (str, int)) else ()


def _is_plain(node: nodes.Expr) -> bool:
    """Return whether a node is a constant as it is written, so that its value costs nothing."""
    return isinstance(node.node if isinstance(node, nodes.Neg) else node, nodes.Const)


def _guarded(tree: nodes.Template) -> Iterator[str]:
    for guard in tree.find_all((nodes.Test, nodes.Filter)):
        if guard.name in _GUARDS and isinstance(guard.node, nodes.Name):
            yield guard.node.name
    tests = [*(branch.test for branch in tree.find_all(nodes.If)), *(one.test for one in tree.find_all(nodes.CondExpr))]
    for test in tests:
        yield from (name.name for name in ([test] if isinstance(test, nodes.Name) else test.find_all(nodes.Name)))
