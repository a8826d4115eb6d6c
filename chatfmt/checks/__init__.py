"""Checks: find problems of conversations, each with a stable code, its row and its turn.

An *error* cannot be converted (an unknown role, content that is neither text nor parts). A *warning* looks wrong (empty
content, roles that do not alternate): it is converted unchanged, counted and reported, and rejected only with
`--strict` or `--fail-on CODE`. A check never changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Literal

import pyarrow as pa
from msgspec import Struct

from ..errors import CheckError, Location, UnknownName
from . import calls, content, media, order, weights
from .column_view import ColumnView, Finding, Limits, column_views

__all__ = [
    "CHECKS", "Check", "ColumnView", "Finding", "Limits", "check_codes", "column_views", "refusing", "run", "to_errors",
]  # fmt: skip

Severity = Literal["error", "warning"]
Finder = Callable[[ColumnView, Limits], Iterator[Finding]]


class Check(Struct, frozen=True):
    """One entry of CHECKS: the kind and meaning of a code, and the function that finds it."""

    kind: Severity
    function: Finder | None
    """None for what `render.safety.control_tokens` finds."""
    summary: str
    hint: str = ""


CHECKS: dict[str, Check] = {
    "msg.role": Check("error", content.unknown_role, "unknown role", "--role NAME=ROLE"),
    "msg.type": Check("error", content.wrong_type, "turn, content or calls of the wrong type"),
    "msg.null": Check("warning", content.null_content, "turn without content", "--transform empty_turns=drop"),
    "msg.empty": Check("warning", content.empty_content, "empty content", "--transform empty_turns=drop"),
    "msg.blank": Check("warning", content.blank_content, "blank content", "--transform empty_turns=drop-blank"),
    "msg.line_break": Check("warning", content.leading_break,
                            "answer that begins with a line break, if `--fail-on` names that",
                            "-t MODEL --to tokens --tokenizer MODEL writes labels"),
    "msg.order": Check("warning", order.wrong_order, "roles out of order", order.SKIP),
    "msg.answer_first": Check("warning", order.answer_first,
                              "conversation that begins with an answer, if `--fail-on` names that",
                              "--transform leading_assistant=drop; --on-error skip drops such rows"),
    "msg.no_user": Check("warning", order.no_user, "no user turn", "--fail-on msg.no_user --on-error skip"),
    "msg.ends_user": Check("warning", order.ends_with_user, "ends with a user turn", "--transform trailing_user=drop"),
    "msg.reasoning_conflict": Check("warning", content.differing_reasoning, "different reasoning in two fields",
                                    "remove one of the fields, or both: --transform reasoning=drop"),
    "msg.reasoning_twice": Check("warning", content.repeated_reasoning, "reasoning in a field and in the text",
                                 "--dialect reasoning-tags moves it out of the text"),
    "msg.reasoning_open": Check("warning", content.unclosed_reasoning, "reasoning without its `</think>`",
                                "--fail-on msg.reasoning_open --on-error skip"),
    "msg.weight": Check("warning", weights.lost_weights, "weight that is not kept in training",
                        "--to text --mask writes `span_weights` if one of the first 1,000 rows has such a weight"),
    "msg.ignored_weight": Check("error", weights.ignored_weights, "weight of an answer that the trainer does not read",
                                "-t MODEL --to tokens --tokenizer MODEL writes labels for trl-sft and axolotl; "
                                "--for ms-swift and --for axolotl write weights"),
    "pair.same": Check("warning", order.same_answers, "chosen and rejected are the same",
                       "--fail-on pair.same --on-error skip"),
    "row.empty": Check("warning", order.no_turns, "no turns", "--on-error skip"),
    "row.no_answer": Check("error", order.no_answer, "pair or completion without an answer",
                           "--on-error skip drops such rows"),
    "row.completion": Check("warning", order.other_in_completion,
                            "answer with a turn that is not the assistant's, if `--fail-on` names that",
                            "--to messages trains on the answers alone, where the trainer reads it; --on-error skip "
                            "drops such rows"),
    "row.blank": Check("warning", content.blank_row, "all content empty or white space"),
    "row.too_long": Check("warning", content.too_long, "longer than the limit"),
    "media.file": Check("warning", media.missing_files, "image, video or audio without its file",
                        "--media-root DIR names the folder of the files"),
    "media.place": Check("warning", media.lone_placeholders, "placeholder in a row without that image, video or audio",
                         "--fail-on media.place --on-error skip"),
    "tool.orphan": Check("warning", calls.orphan_result, "tool result without its call"),
    "tool.unknown": Check("warning", calls.unknown_tools, "call to an unknown tool"),
    "tool.misfit": Check("warning", calls.unfit_arguments, "arguments that the tool does not take"),
    "tool.unread": Check("error", calls.unread_calls, "call or result that the trainer does not read"),
    "tool.results": Check("warning", calls.results_in_a_row, "two results in a row, if `--fail-on` names that",
                          "--transform parallel_calls=split"),
    "tool.unanswered": Check("warning", calls.unanswered_calls, "calls without results"),
    "tool.arguments": Check("warning", calls.unparsable_arguments, "arguments that are missing or not JSON"),
    "tool.encoded": Check("warning", calls.encoded_twice, "arguments that the template encodes twice",
                          "--transform arguments=object"),
    "json.integer": Check("warning", calls.long_integers, "integer that `load_dataset` and its trainers cannot read",
                          "--fail-on json.integer --on-error skip leaves such rows out"),
    "token.control": Check("warning", None, "special token inside content",
                           "--control-tokens escape"),
}  # fmt: skip
"""The checks by code."""


def run(
    batch: pa.RecordBatch,
    codes: Collection[str] | None = None,
    limits: Limits | None = None,
    views: Sequence[ColumnView] | None = None,
) -> list[Finding]:
    """Run the checks with these codes (None: all) on a CONVERSATIONS batch; findings by row, then turn, errors first.

    `views` are the `column_views` of the batch, if another run has made them. Raises UnknownName for a code without a
    check.
    """
    chosen, limits = _chosen(CHECKS if codes is None else codes), limits or Limits()
    views = column_views(batch) if views is None else views
    finders = [check.function for check in chosen if check.function]
    found = [_named(finding) for view in views for find in finders for finding in find(view, limits)]
    return sorted(found, key=_order)


def _order(finding: Finding) -> tuple[int, int, bool]:
    return finding.row, -1 if finding.message is None else finding.message, CHECKS[finding.code].kind != "error"


def _named(finding: Finding) -> Finding:
    """Return a finding whose detail begins with the column of its turn, if that is not `messages`."""
    if finding.message is None or finding.column == "messages":
        return finding
    return finding._replace(detail=f"`{finding.column}`: {finding.detail}")


def check_codes(codes: Iterable[str]) -> None:
    """Raise UnknownName for a code without a check."""
    for code in codes:
        if code not in CHECKS:
            raise UnknownName.of("check", code, CHECKS)


def _chosen(codes: Collection[str]) -> list[Check]:
    check_codes(codes)
    return [CHECKS[code] for code in CHECKS if code in set(codes)]


def refusing(*, strict: bool = False, named: Collection[str] = ()) -> list[str]:
    """Return the codes whose findings reject their row: errors and named warnings, with `strict` all of them."""
    return [code for code, check in CHECKS.items() if strict or code in named or check.kind == "error"]


def to_errors(findings: Iterable[Finding]) -> list[CheckError]:
    """The errors for the first finding of each row, as `run` orders them; rows with the same one have one error."""
    first = {each.row: each for each in reversed(list(findings))}
    alike: dict[tuple[str, int | None, str, str], list[int]] = {}
    for row, each in reversed(first.items()):
        alike.setdefault((each.code, each.message, each.detail, each.hint), []).append(row)
    return [
        CheckError(detail, hint=hint or CHECKS[code].hint, at=Location(message=message), code=code).of_rows(rows)
        for (code, message, detail, hint), rows in alike.items()
    ]
