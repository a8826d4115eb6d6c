"""The ways data sets spell a conversation: a batch of source rows becomes a CONVERSATIONS batch.

A dialect renames and reshapes: no prompt is added, no turn dropped, nothing stripped. To add one, write its function
and its `fits`, and give it a line in DIALECTS, before the dialects that would also read its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from . import flat, mixture, preference, shapes, turns
from .columns import Columns
from .detect import Detection, Dialect, find, used_columns

__all__ = ["DIALECTS", "Columns", "Detection", "Dialect", "detect", "used_columns"]

_FLAT = frozenset({"prompt", "completion", "context", "history"})


def detect(batches: Sequence[pa.RecordBatch], columns: Columns, dialect: str = "auto") -> Detection:
    """How the rows of `batches`, a sample, are to be read: by the one dialect that fits, or by the one named.

    Raises NoDialect if none fits or two do (the hint says what to map), UnknownName for a name not in DIALECTS.
    """
    return find(DIALECTS, batches, columns, dialect)


DIALECTS: dict[str, Dialect] = {
    "segments": Dialect(shapes.segments, shapes.segments_parts, "pieces of text, each trained or not",
                        frozenset({"segments"}), "segments"),
    "stepwise": Dialect(shapes.stepwise, shapes.stepwise_parts, "a prompt and the steps of an answer, right or wrong",
                        frozenset({"prompt", "completions", "labels"}), "stepwise"),
    "preference": Dialect(preference.preference, preference.preference_parts, "a better and a worse answer",
                          frozenset({"prompt", "chosen", "rejected", "context"}), "preference"),
    "messages": Dialect(turns.messages, turns.openai_parts, "turns with a role and a content each",
                        frozenset({"messages", "label"})),
    "sharegpt": Dialect(turns.messages, turns.sharegpt_parts, "turns with `from` and `value` each",
                        frozenset({"messages", "label"})),
    "speakers": Dialect(turns.messages, turns.speaker_parts, "turns with a speaker and a text each",
                        frozenset({"messages", "label"})),
    "pair-turns": Dialect(shapes.pair_turns, shapes.pair_turns_parts, "turns with a question and an answer each"),
    "string-turns": Dialect(shapes.string_turns, shapes.string_turns_parts, "texts, the roles in turn"),
    "user-turns": Dialect(shapes.user_turns, shapes.user_turns_parts, "texts that the user says in turn",
                          frozenset({"prompt"}), "prompt-only"),
    "zipped": Dialect(shapes.zipped, shapes.zipped_parts, "two lists of texts, of the user and the assistant",
                      frozenset({"prompt", "completion"})),
    "conversational": Dialect(turns.conversational, turns.conversational_parts, "a prompt of turns, an answer of turns",
                              frozenset({"prompt", "completion", "label"}), "prompt-only"),
    "answered-turns": Dialect(turns.answered_turns, turns.answered_turns_parts, "turns and a text that answers them",
                              frozenset({"prompt", "completion"})),
    "unpaired-preference": Dialect(flat.prompt_completion_label, flat.labelled_parts, "an answer that is good or not",
                                   frozenset({"prompt", "completion", "label", "context"}), "unpaired-preference"),
    "alpaca": Dialect(flat.question_answer, flat.alpaca_parts, "an instruction, an input and an output", _FLAT),
    "dolly": Dialect(flat.question_answer, flat.dolly_parts, "an instruction, a context and a response", _FLAT),
    "prompt-completion": Dialect(flat.question_answer, flat.question_answer_parts, "a question and an answer", _FLAT),
    "prompt-only": Dialect(flat.prompt_only, flat.prompt_only_parts, "a prompt", frozenset({"prompt", "context"}),
                           "prompt-only"),
    "text": Dialect(flat.rendered_text, flat.text_parts, "text that is complete as it is", frozenset({"text"}), "text"),
}  # fmt: skip
DIALECTS["mixed"] = mixture.mixed(DIALECTS)
