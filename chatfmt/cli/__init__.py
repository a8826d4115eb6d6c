"""The command line: parse options, call the library, print. Nothing outside this package prints."""

from __future__ import annotations

from .app import application, main
