"""`chatfmt transforms`, `dialects` and `checks`: what may be named in options."""

from __future__ import annotations

from .. import terminal


def list_transforms() -> None:
    """List the transforms for --transform NAME=VALUE, in the order in which they run."""
    from ...transforms import TRANSFORMS

    rows = [(name, transform.values, transform.summary) for name, transform in TRANSFORMS.items()]
    terminal.console().print(terminal.table(("name", "values", "what it changes"), rows))


def list_dialects() -> None:
    """List the dialects for --dialect NAME, each with the fields that --map FIELD=COLUMN sets for it."""
    from ...dialects import DIALECTS

    rows = [(name, dialect.summary, ", ".join(sorted(dialect.parts))) for name, dialect in DIALECTS.items()]
    terminal.console().print(terminal.table(("name", "what it reads", "fields"), rows))


def list_checks() -> None:
    """List what `chatfmt check` finds, for --fail-on CODE, with the flag that helps."""
    from ...checks import CHECKS

    rows = [(code, check.kind, check.summary, check.hint) for code, check in CHECKS.items()]
    terminal.console().print(terminal.table(("code", "kind", "what", "suggested fix"), rows))
