"""The command line: parse, one library call, show. The only code that prints."""

from __future__ import annotations

from .app import main

__all__ = ["main"]
