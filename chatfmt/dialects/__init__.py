"""Dialects: the ways in which datasets represent conversations. Each converts source rows to a CONVERSATIONS batch.

A dialect renames and reshapes; it adds no prompt, drops no turn and strips nothing. To add one, write its `convert` and
`find_parts` functions and an entry in the DIALECTS of that module; a new module is also imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from ..lazy import on_call
from .chat import content_blocks, exports, messages, transcripts, trees, untagged_turns
from .detection.detect import Detection, detect_dialect, used_columns
from .detection.mixed import mixed
from .dialect import Dialect
from .instruction import multiple_choice, prompt_completion, reasoning
from .kit.columns import ALIASES, SIDE_PARTS, Columns
from .kit.output import dropped_rows, unused_parts
from .preference import chosen_rejected, grouped, scored
from .tool_use import agent_traces, calls_in_text, functions, trajectories

__all__ = [
    "DIALECTS", "Columns", "Detection", "Dialect", "detect", "dropped_rows", "empty_column", "known_parts",
    "turns_in_turn", "unused_parts", "used_columns",
]  # fmt: skip

_MODULES = (
    content_blocks, exports, messages, transcripts, trees, untagged_turns,
    multiple_choice, prompt_completion, reasoning,
    chosen_rejected, grouped, scored,
    agent_traces, calls_in_text, functions, trajectories,
)  # fmt: skip
_ENTRIES = [entry for module in _MODULES for entry in module.DIALECTS.items()]

DIALECTS: dict[str, Dialect] = dict(sorted(_ENTRIES, key=lambda entry: entry[1].rank))
"""Every dialect by name, in order of rank: the most specific first."""

DIALECTS["mixed"] = mixed(DIALECTS)

empty_column = on_call(__name__, ".detection.no_dialect:empty_column")
turns_in_turn = on_call(__name__, ".detection.no_dialect:turns_in_turn")


def detect(
    batches: Sequence[pa.RecordBatch],
    columns: Columns,
    dialect: str = "auto",
    *,
    shown: Mapping[str, str] | None = None,
) -> Detection:
    """Detect the dialect of a sample of rows, or find out how the dialect that is named reads them.

    `shown` maps columns made by a mapping to the words for them in `Detection.reason`. Raises NoDialect if no dialect
    fits or the choice is ambiguous (the hint says what to map), UnknownName for an unknown dialect or for a kept column
    that is not in the sample.
    """
    return detect_dialect(DIALECTS, batches, columns, dialect, shown)


def known_parts() -> frozenset[str]:
    """Return every part that `--map` can give to a dialect."""
    return frozenset({*SIDE_PARTS, *ALIASES}).union(*(dialect.parts for dialect in DIALECTS.values()))
