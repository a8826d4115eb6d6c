"""The ways data sets spell a conversation: a batch of source rows becomes a CONVERSATIONS batch.

A dialect renames and reshapes: no prompt is added, no turn dropped, nothing stripped. To add one, write its function
and its `fits`, and give it a line in DIALECTS, before the dialects that would also read its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from .chat import content_blocks, exports, messages, transcripts, trees, untagged_turns
from .detection import mixed
from .detection.detect import Detection, find, used_columns
from .dialect import Dialect
from .instruction import multiple_choice, prompt_completion, reasoning
from .kit.columns import ALIASES, SIDE_PARTS, Columns
from .preference import chosen_rejected, grouped, scored
from .tool_use import agent_traces, calls_in_text, functions

__all__ = ["DIALECTS", "PARTS", "Columns", "Detection", "Dialect", "detect", "used_columns"]


def detect(
    batches: Sequence[pa.RecordBatch],
    columns: Columns,
    dialect: str = "auto",
    *,
    shown: Mapping[str, str] | None = None,
) -> Detection:
    """How the rows of `batches`, a sample, are to be read: by the one dialect that fits, or by the one named.

    `shown` are words for columns that a mapping made. Raises NoDialect if none fits or two do (the hint says what to
    map), UnknownName for a name not in DIALECTS or for a kept column that is not in the sample.
    """
    return find(DIALECTS, batches, columns, dialect, shown)


_TURNS = frozenset({"messages"})
_LABELLED = frozenset({"messages", "label"})
_FLAT = frozenset({"prompt", "completion", "context", "history"})
_PAIR = frozenset({"prompt", "chosen", "rejected", "context"})
_ALSO = frozenset({"messages", "sharegpt"})

DIALECTS: dict[str, Dialect] = {
    "segments": Dialect(untagged_turns.segments, untagged_turns.segments_parts, "pieces of text, each trained or not",
                        frozenset({"segments"}), "segments"),
    "stepwise": Dialect(untagged_turns.stepwise, untagged_turns.stepwise_parts, "a prompt and the steps of an answer, right or wrong",
                        frozenset({"prompt", "completions", "labels"}), "stepwise"),
    "oasst-trees": Dialect(trees.oasst_trees, trees.oasst_trees_parts, "trees of messages (OpenAssistant)",
                           frozenset({"tree"})),
    "oasst-rows": Dialect(trees.oasst_rows, trees.oasst_rows_parts, "messages of trees, one a row (OpenAssistant)",
                          frozenset({"text"}), whole_file=True),
    "arena": Dialect(scored.arena, scored.arena_parts, "two conversations and who won (Chatbot Arena)", frozenset(),
                     "preference"),
    "ultrainteract": Dialect(scored.ultrainteract, scored.ultrainteract_parts, "a trajectory and two ways to go on",
                             frozenset(), "preference"),
    "hh": Dialect(transcripts.hh, transcripts.hh_parts, "chosen and rejected dialogues in one text each (hh-rlhf)",
                  frozenset({"chosen", "rejected"}), "preference"),
    "llamafactory": Dialect(content_blocks.llamafactory, content_blocks.llamafactory_parts, "messages of typed values (LLaMA-Factory)",
                            frozenset({"messages", "chosen", "rejected"})),
    "rejected-response": Dialect(scored.rejected_response, scored.rejected_response_parts,
                                 "a conversation and a worse answer to it (ms-swift)", _TURNS, "preference"),
    "positive-negative": Dialect(grouped.positive_negative, grouped.positive_negative_parts,
                                 "a conversation, good and bad ways to go on (ms-swift)", _TURNS, "preference"),
    "preference": Dialect(chosen_rejected.preference, chosen_rejected.preference_parts, "a better and a worse answer", _PAIR,
                          "preference"),
    "compared": Dialect(scored.compared, scored.compared_parts, "two answers and which is better", frozenset(),
                        "preference"),
    "scored": Dialect(scored.scored, scored.scored_parts, "answers with scores or ranks",
                      frozenset({"prompt", "answers", "ratings"}), "preference"),
    "bfcl": Dialect(functions.bfcl, functions.bfcl_parts, "questions of turns and functions to call",
                    frozenset({"prompt", "specs"}), "prompt-only"),
    "xlam": Dialect(functions.xlam, functions.xlam_parts, "a query, tools and calls (xLAM)",
                    frozenset({"prompt", "specs", "answers"})),
    "glaive": Dialect(functions.glaive, functions.glaive_parts, "a system text and a chat text with calls (Glaive)",
                      frozenset({"chat", "preamble"})),
    "chatgpt-export": Dialect(exports.chatgpt_export, exports.chatgpt_parts, "trees of a ChatGPT data export",
                              frozenset({"mapping"})),
    "gemini": Dialect(exports.gemini, exports.gemini_parts, "contents of parts (Gemini)", _TURNS),
    "anthropic": Dialect(content_blocks.anthropic, content_blocks.anthropic_parts, "messages of blocks (Anthropic)", _TURNS,
                         covers=frozenset({"messages"})),
    "responses": Dialect(content_blocks.responses, content_blocks.responses_parts, "items of OpenAI's Responses API", _TURNS,
                         covers=frozenset({"messages"})),
    "traces": Dialect(agent_traces.traces, agent_traces.traces_parts, "turns of an agent, the question in its own column",
                      frozenset({"messages", "question"}), covers=frozenset({"messages", "sharegpt"})),
    "messages": Dialect(messages.messages, messages.openai_parts, "turns with a role and a content each", _LABELLED),
    "sharegpt": Dialect(messages.messages, messages.sharegpt_parts, "turns with `from` and `value` each", _LABELLED),
    "speakers": Dialect(messages.messages, messages.speaker_parts, "turns with a speaker and a text each", _LABELLED),
    "pair-turns": Dialect(untagged_turns.pair_turns, untagged_turns.pair_turns_parts, "turns with a question and an answer each"),
    "string-turns": Dialect(untagged_turns.string_turns, untagged_turns.string_turns_parts, "texts, the roles in turn"),
    "user-turns": Dialect(untagged_turns.user_turns, untagged_turns.user_turns_parts, "texts that the user says in turn",
                          frozenset({"prompt"}), "prompt-only"),
    "conversational": Dialect(messages.conversational, messages.conversational_parts, "a prompt of turns, an answer of turns",
                              frozenset({"prompt", "completion", "label"}), "prompt-only"),
    "answered-turns": Dialect(messages.answered_turns, messages.answered_turns_parts, "turns and a text that answers them",
                              frozenset({"prompt", "completion"})),
    "multiple-choice": Dialect(multiple_choice.multiple_choice, multiple_choice.multiple_choice_parts, "a question and its choices",
                               frozenset({"prompt", "choices", "answer"})),
    "squad": Dialect(multiple_choice.squad, multiple_choice.squad_parts, "a text, a question and answers in it (SQuAD)",
                     frozenset({"prompt", "context", "answers"})),
    "reasoning": Dialect(reasoning.reasoning_column, reasoning.reasoning_column_parts,
                         "a question, its reasoning and its answer", _FLAT | {"reasoning"}),
    "unpaired-preference": Dialect(prompt_completion.prompt_completion_label, prompt_completion.labelled_parts, "an answer that is good or not",
                                   _FLAT | {"label"}, "unpaired-preference"),
    "alpaca": Dialect(prompt_completion.question_answer, prompt_completion.alpaca_parts, "an instruction, an input and an output", _FLAT),
    "dolly": Dialect(prompt_completion.question_answer, prompt_completion.dolly_parts, "an instruction, a context and a response", _FLAT),
    "prompt-completion": Dialect(prompt_completion.question_answer, prompt_completion.question_answer_parts, "a question and an answer", _FLAT),
    "prompt-only": Dialect(prompt_completion.prompt_only, prompt_completion.prompt_only_parts, "a prompt", frozenset({"prompt", "context"}),
                           "prompt-only"),
    "transcript": Dialect(transcripts.transcript, transcripts.transcript_parts, "text with the marks of a chat template",
                          frozenset({"text", "messages"})),
    "text": Dialect(prompt_completion.rendered_text, prompt_completion.text_parts, "text that is complete as it is", frozenset({"text"}), "text"),
    "rated-rows": Dialect(grouped.rated_rows, grouped.rated_rows_parts, "rated answers to one prompt, one a row",
                          frozenset({"prompt", "completion", "ratings"}), "preference", asked=True, whole_file=True),
    "hermes": Dialect(functions.hermes, functions.hermes_parts, "calls in `<tool_call>` tags (Hermes)",
                      frozenset({"messages", "question"}), covers=_ALSO, asked=True),
    "toolace": Dialect(calls_in_text.toolace, calls_in_text.toolace_parts, "calls in brackets (ToolACE)", _TURNS,
                       covers=_ALSO, asked=True),
    "react": Dialect(calls_in_text.react, calls_in_text.react_parts, "thoughts and actions (ReAct)", _TURNS,
                     covers=_ALSO, asked=True),
    "tail-calls": Dialect(agent_traces.tail_calls, agent_traces.tail_calls_parts, "calls in a last line `AI to=NAME: {…}`", _TURNS,
                          covers=_ALSO, asked=True),
    "reasoning-tags": Dialect(reasoning.reasoning_tags, reasoning.reasoning_tags_parts, "reasoning between tags",
                              _TURNS, covers=_ALSO, asked=True),
}  # fmt: skip
"""Every dialect by its name, the most specific first; `mixed` reads each row by the first that fits it."""

DIALECTS["mixed"] = mixed.mixed(DIALECTS)

PARTS = frozenset({*SIDE_PARTS, *ALIASES}).union(*(dialect.parts for dialect in DIALECTS.values()))
"""Every part that a mapping can give to a dialect."""
