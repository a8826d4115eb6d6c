"""Leaves that have their first value after the sample: named at the end of the run, or an error of the row."""

from __future__ import annotations

from itertools import takewhile

import pyarrow as pa

from ...errors import DialectError, Location
from ...schema import KEPT_TRUTHS, TRUTHS
from ...views import VIEWS
from .ledger import Ledger, flag_to_drop, flag_to_read
from .suspects import PHRASES


def awaited_truths(view: str | None, ledger: Ledger) -> frozenset[str]:
    """Return the columns, empty in the sample, that would hold the ground truth of the view instead of another."""
    keep = ledger.keep
    if not (view and VIEWS[view].reads_truth) or (keep != "all" and not {*KEPT_TRUTHS}.isdisjoint(keep)):
        return frozenset()
    names = KEPT_TRUTHS if keep == "all" else TRUTHS
    return frozenset(takewhile(lambda name: name not in ledger.seen - ledger.used, names))


def account_late(
    ledger: Ledger, batch: pa.RecordBatch, conversations: pa.RecordBatch, awaited: frozenset[str]
) -> Ledger:
    """Return the ledger with the leaves that are new in a source batch, given the conversations made of it.

    Raises DialectError `col.late` for the first row in which such a leaf looks like part of the conversation, or holds
    a ground truth that is `awaited`.
    """
    found = ledger.account(batch, conversations)
    if truths := (found.seen - ledger.seen).intersection(awaited):
        row, path = ledger.first_row(sorted(truths), batch)
        raise DialectError(
            f"`{path}`, which is empty in the sample, would be the ground truth of later rows alone",
            hint=f"--keep {path} --where '{path} is defined' keeps rows that have it; --drop {path} leaves it behind",
            at=Location(row=row),
            code="col.late",
        )
    known = {*ledger.suspects, *(leaf.path for leaf in ledger.left)}
    new = {path: part for path, part in found.suspects.items() if path not in known}
    if not new:
        return found
    row, path = ledger.first_row(new, batch)
    mapped = flag_to_read(ledger, path, new[path])
    raise DialectError(
        f"`{path}`, which is empty in the sample, looks like {PHRASES[new[path]]} and would be left behind",
        hint=f"{mapped + ' reads it; ' if mapped else ''}{flag_to_drop(ledger, path)} leaves it behind",
        at=Location(row=row),
        code="col.late",
    )
