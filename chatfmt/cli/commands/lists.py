"""`chatfmt transforms`, `dialects` and `checks`: what may be named in options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import terminal
from ..options import AsJson


def list_transforms(as_json: AsJson = False) -> None:
    """List the transforms for --transform NAME=VALUE, in the order in which they run."""
    from ...transforms import TRANSFORMS

    rows = [(name, transform.values, transform.summary) for name, transform in TRANSFORMS.items()]
    print_list({"name": "name", "values": "values", "summary": "what it changes"}, rows, as_json=as_json)


def list_dialects(as_json: AsJson = False) -> None:
    """List the dialects for --dialect NAME, each with the fields that --map FIELD=COLUMN sets for it."""
    from ...dialects import DIALECTS

    rows = [(name, dialect.summary, ", ".join(sorted(dialect.parts))) for name, dialect in DIALECTS.items()]
    print_list({"name": "name", "summary": "what it reads", "fields": "fields"}, rows, as_json=as_json)


def list_checks(as_json: AsJson = False) -> None:
    """List what `chatfmt check` finds, for --fail-on CODE, with the flag that helps."""
    from ...checks import CHECKS

    rows = [(code, check.kind, check.summary, check.hint) for code, check in CHECKS.items()]
    print_list({"code": "code", "kind": "kind", "summary": "what", "fix": "suggested fix"}, rows, as_json=as_json)


def print_list(titles: Mapping[str, str], rows: Sequence[Sequence[str]], *, as_json: bool) -> None:
    """Print rows as a table with these titles, or as JSON with the keys of the titles."""
    if as_json:
        terminal.print_json([dict(zip(titles, row, strict=True)) for row in rows])
    else:
        terminal.console().print(terminal.table([*titles.values()], rows))
