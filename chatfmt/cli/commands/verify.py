"""`chatfmt verify`: compare an output folder with its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import terminal
from ..options import AsJson

if TYPE_CHECKING:
    from ...manifest import FolderProblem, Manifest


def verify(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that chatfmt wrote, or its URL.")],
    as_json: AsJson = False,
) -> None:
    """Compare all checksums and counts of an output folder with its manifest; exit code 1 if any differ."""
    from ... import manifest
    from ...stores import is_remote

    place = folder if is_remote(folder) else Path(folder)
    problems, written, card = verify_anywhere(place)
    if as_json:
        found = [{"code": problem.code, "path": problem.path, "message": problem.message} for problem in problems]
        terminal.print_json({"schema": 1, "problems": found, **({"card": card} if card else {})})
    if written is None or problems:
        raise manifest.damaged(place, problems)
    if not as_json:
        rows = terminal.counted(sum(shard.rows for shard in written.shards), "row")
        same = f"all checksums match{f'; {card}' if card else ''}"
        terminal.print_out(f"{place}: {rows} in {terminal.counted(len(written.shards), 'shard')}, {same}")


def verify_anywhere(place: Path | str) -> tuple[list[FolderProblem], Manifest | None, str]:
    """Return what differs in a folder, here or on a store, its manifest, and what has become of its card."""
    from ... import manifest, writers

    if isinstance(place, str):
        return writers.verify_on_store(place)
    problems = manifest.verify(place)
    written = None if problems else manifest.read_manifest(place)
    return problems, written, manifest.card_change(place, written) if written else ""
