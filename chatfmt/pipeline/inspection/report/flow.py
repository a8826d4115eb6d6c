"""The destination of each column of a source: a part of the conversation, a kept column, or none."""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from ....dialects import Detection
from ....mapping import FieldPath, TextTemplate
from ....mapping.plan import FieldSource
from ...conversion.job import Job

Kind = Literal["read", "kept", "dropped", "left"]
PARTS = {
    "prompt": "user", "completion": "assistant", "messages": "messages", "context": "user", "history": "messages",
    "tree": "messages",
}  # fmt: skip
"""What a part becomes; others keep their names."""
SHOWN = 16
"""Columns in the picture."""


class Route(Struct, frozen=True):
    """A column, or keys inside one, and where it goes."""

    column: str
    to: str
    kind: Kind


def routes(job: Job, detection: Detection, names: tuple[str, ...]) -> list[Route]:
    """Return a route or more for each of the columns `names`."""
    ledger, found = job.ledger, []
    known = frozenset(names)
    left = {ledger.column_of(leaf.path, known) for leaf in ledger.left_columns}
    for name in names:
        ends = [Route(name, part, "read") for part in _parts(job, detection, name)]
        if (job.ledger.keep == "all" and not ends) or name in ledger.keep:
            ends.append(Route(name, "kept as it is", "kept"))
        if name in ledger.drop:
            ends.append(Route(name, "dropped as asked", "dropped"))
        if name in left:
            ends.append(Route(name, "left behind", "left"))
        if not ends:
            ends = [Route(name, "read", "read")] if name in detection.used else [Route(name, "empty", "left")]
        found += ends
    return found


def keys_left(job: Job, names: tuple[str, ...]) -> list[Route]:
    """Return a route for the keys in each column that are left behind though the column is read."""
    inside: dict[str, list[str]] = {}
    known = frozenset(names)
    for leaf in job.ledger.left_keys:
        inside.setdefault(job.ledger.column_of(leaf.path, known), []).append(leaf.path)
    return [
        Route(paths[0] if len(paths) == 1 else f"{len(paths)} keys in {name}", "left behind", "left")
        for name, paths in inside.items()
    ]


def _parts(job: Job, detection: Detection, name: str) -> list[str]:
    """Return the parts of the conversation that a column becomes."""
    fields = () if job.mapping is None else job.mapping.fields
    mapped = [part for part, source in fields if _reads(source, name)]
    parts = {part: path for part, path in detection.columns.fields.items() if "." not in part}
    read = [part for part, path in parts.items() if f"{path}.".startswith((f"{name}.", f"{name}["))]
    return list(dict.fromkeys(PARTS.get(part, part) for part in (*mapped, *read)))


def _reads(source: FieldSource, name: str) -> bool:
    """Return whether a field of the mapping is made of a column."""
    if isinstance(source, TextTemplate):
        return bool(re.search(rf"\b{re.escape(name)}\b", source.text))
    return isinstance(source, FieldPath) and source.root == name
