"""The command line: parse, one library call, show. The only code that prints."""

from __future__ import annotations

from .app import app, main
from .convert import convert

app.command("convert", no_args_is_help=True)(convert)

__all__ = ["app", "main"]
