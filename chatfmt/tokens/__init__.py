"""Count tokens and make token ids, labels and masks of rendered text, with the `tokenizers` library.

Names are imported on first use: the tokenizer process, which imports `worker` alone, needs no Arrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .lengths import over_length, split_turns
    from .tokenizer import IGNORED, SCHEMA, Tokenizer, content, load, split_tokens

__getattr__, __all__ = attach(
    __name__,
    {
        ".lengths": ("over_length", "split_turns"),
        ".tokenizer": ("IGNORED", "SCHEMA", "Tokenizer", "content", "load", "split_tokens"),
    },
)
