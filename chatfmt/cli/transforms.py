"""`chatfmt transforms`: list the transforms."""

from __future__ import annotations

from . import terminal


def list_transforms() -> None:
    """List the transforms for --transform NAME=VALUE, in the order in which they run."""
    from ..pipeline.plugins import load_plugins
    from ..transforms import TRANSFORMS

    load_plugins()
    rows = [(name, transform.values, transform.summary) for name, transform in TRANSFORMS.items()]
    terminal.console().print(terminal.table(("name", "values", "what it changes"), rows))
