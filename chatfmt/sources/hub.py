"""Data sets of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from .model import ReaderOptions, Source


def resolve_hub(
    source: str, *, name: str | None, split: str | None, revision: str | None, data_files: Sequence[str],
    data_dir: str | None, options: ReaderOptions,
) -> Source:  # fmt: skip
    """The files of the asked split of a Hub data set."""
    raise InputError(f"no such file or data set `{source}`")
