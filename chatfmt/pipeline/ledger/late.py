"""Leaves that have their first value after the sample: named at the end of the run, or an error of the row."""

from __future__ import annotations

import pyarrow as pa

from ...errors import DialectError, Location
from .ledger import Ledger, flag_to_drop
from .suspects import PHRASES


def account_late(ledger: Ledger, batch: pa.RecordBatch, conversations: pa.RecordBatch) -> Ledger:
    """Return the ledger with the leaves that are new in a source batch, given the conversations made of it.

    Raises DialectError `col.late` for the first row in which such a leaf looks like part of the conversation.
    """
    found = ledger.account(batch, conversations)
    new = {path: part for path, part in found.suspects.items() if path not in ledger.suspects}
    if not new:
        return found
    rows = {path: ledger.first_row(path, batch) for path in new}
    path = min(new, key=lambda path: rows[path])
    raise DialectError(
        f"`{path}`, which is empty in the sample, looks like {PHRASES[new[path]]} and would be left behind",
        hint=f"{flag_to_drop(ledger, path)} leaves it behind",
        at=Location(row=rows[path]),
        code="col.late",
    )
