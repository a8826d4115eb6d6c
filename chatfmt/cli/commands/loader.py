"""`chatfmt loader`: print what loads the files of a conversion into a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import terminal
from ..completion import completer
from ..values import positive


def loader(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A folder that chatfmt wrote.")],
    wanted: Annotated[  # not `trainer`, whose help is that of `convert`
        str | None,
        typer.Option(
            "--for",
            metavar="TRAINER",
            help="The trainer; default: that of the conversion.",
            autocompletion=completer("trainer"),
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Folder or Hub id of the model.")
    ] = None,
    max_steps: Annotated[str | None, typer.Option("--max-steps", metavar="N", help="Train only N steps.")] = None,
) -> None:
    """Print the script, configuration or command that trains on the files in DIR."""
    from ...pipeline.inspection.loader import loader_text

    steps = None if max_steps is None else positive("--max-steps", max_steps)
    terminal.print_out(loader_text(Path(folder), folder, wanted, model, steps).rstrip("\n"))
