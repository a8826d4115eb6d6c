"""Find names that a template reads, that nothing defines, and that look like a misspelt name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jinja2 import nodes
from jinja2.defaults import DEFAULT_NAMESPACE

from ...errors import nearest
from ..jinja.environment import DOES_NOT_PARSE, sandbox
from ..template.special_tokens import NAMED
from ..types import CONTEXT_NAMES

_IMPLICIT = frozenset(
    (*DEFAULT_NAMESPACE, "raise_exception", "strftime_now", "loop", "caller", "varargs", "kwargs", "self")
)
LETTERS = 4
"""A misspelt name differs in one letter of so many at most."""


def misspelt_names(text: str, defined: Iterable[str] = ()) -> Mapping[str, str]:
    """Return the names that nothing defines, each with the name that it resembles of those that every render knows.

    `defined` are names that are defined as well. A name that the template itself sets anywhere counts as
    defined. Nothing of the template runs. Empty for text that does not compile.
    """
    try:
        tree = sandbox().parse(text)
        names = [*tree.find_all(nodes.Name)]
        macros = {macro.name for macro in tree.find_all(nodes.Macro)}
    except DOES_NOT_PARSE:
        return {}
    known = {*CONTEXT_NAMES, *NAMED}
    own = {*macros, *defined, *_IMPLICIT, *(name.name for name in names if name.ctx != "load")}
    read = dict.fromkeys(name.name for name in names if name.ctx == "load" and name.name not in known | own)
    return {name: close[0] for name in read if (close := nearest(name, known, len(name) // LETTERS))}
