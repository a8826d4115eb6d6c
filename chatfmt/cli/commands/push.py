"""`chatfmt push`: upload an output folder to the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import terminal
from ..options import AsJson
from ..summary import size

if TYPE_CHECKING:
    from ...pipeline import Pushed


def push(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that chatfmt wrote.")],
    repository: Annotated[str, typer.Argument(metavar="REPO", help="Dataset on the Hub: OWNER/NAME.")],
    public: Annotated[
        bool, typer.Option("--public", help="Create the dataset public; also upload to one that is.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REV", help="Branch to upload to; default: main.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print no progress and no summary.")] = False,
    as_json: AsJson = False,
) -> None:
    """Verify an output folder and upload it to the Hub, private by default.

    One commit holds all of it and removes data files of earlier pushes. If it is interrupted, nothing of it is visible:
    run the same command again. Rejected rows are not uploaded.
    """
    from msgspec.structs import asdict

    from ... import pipeline

    shown = terminal.is_drawn(quiet or as_json)
    target = pipeline.Repository.of(repository, revision)
    done = pipeline.push(Path(folder), target, public=public, show_progress=shown)
    if as_json:
        terminal.print_json({"schema": 1, **asdict(done)})
    elif not quiet:
        terminal.print_out(describe(done, public=public))


def describe(done: Pushed, *, public: bool = False) -> str:
    """Return the lines that say what is on the Hub now."""
    visible = "private" if done.private else "public"
    what = f"{terminal.counted(done.rows, 'row')} in {terminal.counted(done.shards, 'shard')}, {size(done.bytes)}"
    verb = f"pushed {what} to {done.url}" if done.changed else f"{done.url} already holds these {what}"
    lines = [f"{verb} ({visible}, commit {done.commit[:12]})"]
    if public and done.private:
        lines.append("it stays private: its settings on the Hub make it public")
    if done.removed:
        more = " …" if len(done.removed) > 1 else ""
        lines.append(f"removed {terminal.counted(len(done.removed), 'older file')}: {done.removed[0]}{more}")
    return "\n".join(lines)
