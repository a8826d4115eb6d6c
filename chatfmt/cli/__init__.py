"""The command line: parse, one library call, show. The only code that prints."""

from __future__ import annotations

from . import array, library, look
from .app import app, main
from .convert import convert
from .help import Command

app.command("convert", no_args_is_help=True, cls=Command)(convert)
app.command("plan", no_args_is_help=True, cls=Command)(array.plan)
app.command("run", no_args_is_help=True, cls=Command)(array.run)
app.command("commit", no_args_is_help=True, cls=Command)(array.commit)
app.command("inspect", no_args_is_help=True, cls=Command)(look.inspect)
app.command("preview", no_args_is_help=True, cls=Command)(look.preview)
app.command("check", no_args_is_help=True, cls=Command)(look.check)
app.add_typer(library.templates, name="templates")
app.add_typer(library.known, name="recipes")
app.command("transforms", cls=Command)(library.list_transforms)
app.command("verify", no_args_is_help=True, cls=Command)(library.verify)

__all__ = ["app", "main"]
