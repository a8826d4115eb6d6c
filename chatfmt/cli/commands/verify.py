"""`chatfmt verify`: compare an output folder with its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import terminal
from ..options import AsJson


def verify(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that chatfmt wrote.")],
    as_json: AsJson = False,
) -> None:
    """Compare all checksums and counts of an output folder with its manifest; exit code 1 if any differ."""
    from ... import manifest

    path = Path(folder)
    problems = manifest.verify(path)
    written = None if problems else manifest.read_manifest(path)
    card = manifest.card_change(path, written) if written else ""
    if as_json:
        found = [{"code": problem.code, "path": problem.path, "message": problem.message} for problem in problems]
        terminal.print_json({"schema": 1, "problems": found, **({"card": card} if card else {})})
    if written is None:
        raise manifest.damaged(path, problems)
    if not as_json:
        rows = terminal.counted(sum(shard.rows for shard in written.shards), "row")
        same = f"all checksums match{f'; {card}' if card else ''}"
        terminal.print_out(f"{path}: {rows} in {terminal.counted(len(written.shards), 'shard')}, {same}")
