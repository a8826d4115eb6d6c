"""The command line: parse, one library call, show. The only code that prints."""

from __future__ import annotations

from .app import application, main

__all__ = ["application", "main"]
