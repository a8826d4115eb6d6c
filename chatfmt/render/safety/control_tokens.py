"""Control tokens in message content: find and count them, and keep, drop, escape or reject their rows.

The text `<|im_end|>` in a message is the control token `<|im_end|>` to any tokenizer that reads the rendered text. The
control tokens of a template are its special tokens and the tokens in its own literal text.

Escaping splits tokens in a way that can be undone from the text alone; see `escaping`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ...errors import ChatfmtError, CheckError, Location
from ...escaped_texts import text_offsets
from ...json_columns import JSON, TEXT, booleans, dumps, integers, is_turns
from ...schema import CONVERSATION_COLUMNS, KEYS
from ...turn_columns import lengths_of, matches, to_bools
from ..jinja.environment import literal_texts
from ..masks.turn_boundaries import TOKEN
from ..template.chat_template import ChatTemplate
from .escaping import escaper

ControlTokenPolicy = Literal["keep", "drop", "escape", "reject"]
ESCAPES = "control_escapes"
"""The column that `escape` adds: for rows with escapes, a JSON list of `[column, message, field, offset, token]`."""
_SHAPE = re.compile(TOKEN)
_SHORTEST = 3
BLANKS = " \t\n\r\v\f"


def find_control_tokens(template: ChatTemplate, extra: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the control tokens of a template, longest first: special tokens, those in its literal text, and `extra`.

    Of a template that does not compile, only the special tokens are returned.
    """
    special = [token for token in template.special_tokens.values() if isinstance(token, str)]
    found = {match[0] for text in _texts_of(template) for match in _SHAPE.finditer("\n".join(literal_texts(text)))}
    tokens = (token for token in {*special, *found, *extra} if len(token.strip()) >= _SHORTEST)
    return tuple(sorted(tokens, key=lambda token: (-len(token), token)))


def _texts_of(template: ChatTemplate) -> Iterator[str]:
    """Yield the texts that the template chooses without and with tools."""
    choices: tuple[object, ...] = (None, [{}])
    for tools in choices:
        try:
            yield template.choose(tools)
        except ChatfmtError:  # a model whose only template is for tools
            continue


class TokenEdges(Struct, frozen=True, dict=True):
    """Parts of tokens at the end or start of a text that adjacent template text completes, with the tokens."""

    ends: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, str] = field(default_factory=dict)

    def find(self, column: pa.Array) -> npt.NDArray[np.int64]:
        """Return the indices of texts with such an edge, ignoring whitespace around them, which is often trimmed."""
        if not self.ends and not self.starts:
            return np.zeros(0, np.int64)
        offsets = text_offsets(column)
        long = np.flatnonzero(np.diff(offsets) > 1)
        data = np.frombuffer(column.buffers()[2] or b"", np.uint8)
        begin, end = offsets[long], offsets[long + 1]
        first, last = self._pairs
        likely = long[first[data[begin], data[begin + 1]] | last[data[end - 2], data[end - 1]]]
        near = np.sort(np.concatenate([likely, np.flatnonzero(np.diff(offsets) == 1)]))
        texts = column.take(integers(near)).to_pylist()
        return near[[index for index, text in enumerate(texts) if text is not None and self.token(text)]]

    @cached_property
    def _pairs(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Tables of the first and last two bytes that a text with such an edge can have: enough to rule out most."""
        first, last = np.zeros((256, 256), np.bool_), np.zeros((256, 256), np.bool_)
        blanks = list(BLANKS.encode())
        first[blanks], last[:, blanks] = True, True
        for part in self.starts:
            head = part.encode()
            first[head[0], head[1] if head[1:] else slice(None)] = True
        for part in self.ends:
            tail = part.encode()
            last[tail[-2] if tail[1:] else slice(None), tail[-1]] = True
        return first, last

    def token(self, text: str) -> str:
        """Return the token that an edge of the text forms; empty if none."""
        text = text.strip(BLANKS)
        ending = (token for part, token in self.ends.items() if text.endswith(part))
        return next(ending, "") or next((token for part, token in self.starts.items() if text.startswith(part)), "")


def find_token_edges(template: ChatTemplate) -> TokenEdges:
    """Return the edges that literal text of a template completes to control tokens; most templates have none."""
    texts = [literal for text in _texts_of(template) for literal in literal_texts(text)]
    literals = {text for text in (*texts, *template.special_tokens.values()) if isinstance(text, str) and text}
    ends: dict[str, str] = {}
    starts: dict[str, str] = {}
    for token in find_control_tokens(template):
        for split in range(1, len(token)):
            if any(literal.startswith(token[split:]) for literal in literals):
                ends.setdefault(token[:split], token)
            if any(literal.endswith(token[:split]) for literal in literals):
                starts.setdefault(token[split:], token)
    return TokenEdges(ends, starts)


class TokenFinding(Struct, frozen=True):
    """A value of a text field with control tokens in it."""

    row: int
    message: int | None
    field: str
    tokens: tuple[str, ...]
    at_boundary: bool = False
    """Whether the token is formed by the field together with the template's adjacent text."""

    @property
    def code(self) -> str:
        return "token.boundary" if self.at_boundary else "token.control"

    @property
    def detail(self) -> str:
        where = "the content" if self.field == "content" else f"`{self.field}`"
        return f"{', '.join(f'`{token}`' for token in dict.fromkeys(self.tokens))} in {where}"

    def error(self) -> CheckError:
        if self.at_boundary:
            text = f"`{self.field}` may form the control token `{self.tokens[0]}` with the template text next to it"
            hint = "`--control-tokens drop` drops such rows; `keep` keeps them"
        else:
            text = f"the control token `{self.tokens[0]}` is in `{self.field}`"
            hint = "`--control-tokens escape` splits such tokens, `drop` drops their rows, `keep` keeps them"
        return CheckError(text, hint=hint, at=Location(row=self.row, message=self.message), code=self.code)


class PolicyResult(Struct, frozen=True):
    """A batch after a policy was applied."""

    batch: pa.RecordBatch
    counts: Mapping[str, int]
    """The number of occurrences of each token."""
    rows: tuple[int, ...]
    """The rows with a token, or for `escape` those that were changed, as indices of the original batch."""
    rejected: tuple[CheckError, ...] = ()
    kept: tuple[TokenFinding, ...] = ()
    """The first finding of each kind in each row that `keep` leaves."""


class Scanner:
    """Finds a template's control tokens in the columns of conversations, in one pass over their text.

    `edges` are the starts and ends of texts that form a token with the template's adjacent text.
    """

    def __init__(self, tokens: Sequence[str], edges: TokenEdges | None = None) -> None:
        self.tokens, self._edges = tuple(tokens), edges or TokenEdges()
        self._exact = re.compile("|".join(map(re.escape, tokens)) or r"(?!)")

    @cached_property
    def _patterns(self) -> tuple[str, ...]:
        """One pattern per first character: ten times as fast to search for as a pattern with several."""
        return tuple(
            "|".join(re.escape(token) for token in self.tokens if token[:1] == first)
            for first in dict.fromkeys(token[:1] for token in self.tokens)
        )

    def findings(self, batch: pa.RecordBatch) -> list[TokenFinding]:
        """Return every value with a token in the conversations, tools and documents of a batch, by column."""
        found = []
        for texts in _text_fields(batch):
            indices = _find_patterns(texts.values, self._patterns)
            for index, text in zip(indices.tolist(), texts.values.take(integers(indices)).to_pylist(), strict=True):
                if tokens := self._exact.findall(text):
                    found.append(TokenFinding(*texts.locate(index), texts.field, tuple(tokens)))
            if texts.values.type == TEXT:
                for index in self._edges.find(texts.values).tolist():
                    token = self._edges.token(texts.values[index].as_py())
                    found.append(TokenFinding(*texts.locate(index), texts.field, (token,), at_boundary=True))
        return found

    def apply(self, batch: pa.RecordBatch, policy: ControlTokenPolicy) -> PolicyResult:
        """Apply a policy to a batch.

        `keep` changes nothing; `drop` drops the rows with tokens; `reject` does too, with an error for each; `escape`
        splits every token, and whatever looks like a split one, and records where in the column `ESCAPES`.
        """
        found = self.findings(batch) if self.tokens else []
        counts = Counter(token for finding in found for token in finding.tokens)
        if policy == "escape" and self.tokens:
            escaped, changed = self._escape(batch)
            return PolicyResult(
                escaped, counts, changed, tuple(finding.error() for finding in found if finding.at_boundary)
            )
        rows = tuple(sorted({finding.row for finding in found}))
        if not rows or policy == "keep":
            first = {(finding.row, finding.code): finding for finding in reversed(found)}
            return PolicyResult(batch, counts, rows, kept=tuple(first[key] for key in sorted(first)))
        kept = np.ones(len(batch), np.bool_)
        kept[list(rows)] = False
        worst, alike = {finding.row: finding for finding in reversed(found)}, dict[TokenFinding, list[int]]()
        for row in rows if policy == "reject" else ():
            alike.setdefault(replace(worst[row], row=0), []).append(row)
        errors = tuple(finding.error().of_rows(some) for finding, some in alike.items())
        return PolicyResult(batch.filter(booleans(kept)), counts, rows, errors)

    def _escape(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, tuple[int, ...]]:
        """Return the batch with escaped texts and the column `ESCAPES`, and the rows that changed."""
        records: dict[int, list[list[object]]] = {}
        escaping = escaper(self.tokens)
        for texts in list(_text_fields(batch)):
            changed: dict[int, str] = {}
            for index in _find_patterns(texts.values, escaping.patterns).tolist():
                changed[index], escapes = escaping.escape(texts.values[index].as_py())
                row, message = texts.locate(index)
                records.setdefault(row, []).extend(
                    [texts.column, message, texts.field, offset, token] for offset, token in escapes
                )
            if changed:
                values = [changed.get(index, value) for index, value in enumerate(texts.values.to_pylist())]
                batch = _replace_values(batch, texts, pa.array(values, texts.values.type))
        written = [dumps(records[row]) if row in records else None for row in range(len(batch))]
        return batch.append_column(ESCAPES, pa.array(written, JSON)), tuple(sorted(records))


def _find_patterns(column: pa.Array, patterns: Iterable[str]) -> npt.NDArray[np.int64]:
    """Return the indices of the values of a text column that match one of the patterns."""
    hits = np.zeros(len(column), np.bool_)
    for pattern in patterns:
        hits |= to_bools(matches(column, pattern))
    found: npt.NDArray[np.int64] = np.flatnonzero(hits)
    return found


def escape(text: str, template: ChatTemplate | str) -> str:
    """Return the text with the control tokens of a template (or of the template of that name) split: `< |im_end|>`.

    This is what `--control-tokens escape` does to message content; prompts for a model trained on such data should be
    escaped too. A text that already looks split gets another space, so that `unescape` restores every text.
    """
    return escaper(find_control_tokens(_load(template))).escape(text)[0]


def unescape(text: str, template: ChatTemplate | str) -> str:
    """Return the text as it was before `escape` or `--control-tokens escape`; any other text is returned as it is.

    The text may also be a whole rendered conversation: the template's own tokens are not changed.
    """
    return escaper(find_control_tokens(_load(template))).unescape(text)


def _load(template: ChatTemplate | str) -> ChatTemplate:
    return ChatTemplate.load(template) if isinstance(template, str) else template


class TextField(Struct, frozen=True):
    """The values of one text field of a batch: a field of the messages, or a whole column."""

    column: str
    field: str
    values: pa.Array
    rows: npt.NDArray[np.int64]
    """The row of each value."""
    starts: npt.NDArray[np.int64] | None = None
    """The index of each row's first message among the values; None for a whole column."""

    def locate(self, index: int) -> tuple[int, int | None]:
        """Return the row and the message of a value."""
        row = int(self.rows[index])
        return row, None if self.starts is None else index - int(self.starts[row])


def _text_fields(batch: pa.RecordBatch) -> Iterator[TextField]:
    """Yield the text fields of a batch: those of messages except roles, tools and documents."""
    for name in (*CONVERSATION_COLUMNS, "tools", "documents"):
        index = batch.schema.get_field_index(name)
        column = batch.column(index) if index >= 0 else None
        if column is None:
            continue
        if not is_turns(column.type):
            if column.type in (TEXT, JSON):
                yield TextField(name, name, column, np.arange(len(column)))
            continue
        lengths = lengths_of(column)
        rows, starts = np.repeat(np.arange(len(lengths)), lengths), np.cumsum(lengths) - lengths
        turns = column.flatten()
        for item, values in zip(turns.type, turns.flatten(), strict=True):
            if item.type in (TEXT, JSON) and item.name not in ("role", KEYS):
                yield TextField(name, item.name, values, rows, starts)


def _replace_values(batch: pa.RecordBatch, texts: TextField, values: pa.Array) -> pa.RecordBatch:
    """Return the batch with new values for one text field."""
    index = batch.schema.get_field_index(texts.column)
    column = batch.column(index)
    if texts.starts is None:
        return batch.set_column(index, texts.column, values)
    turns = column.flatten()
    names = [field.name for field in turns.type]
    arrays = [values if name == texts.field else old for name, old in zip(names, turns.flatten(), strict=True)]
    ends = np.append(texts.starts, len(turns)).astype(np.int32)
    struct = pa.StructArray.from_arrays(arrays, names=names)
    mask = column.is_null() if column.null_count else None
    return batch.set_column(index, texts.column, pa.ListArray.from_arrays(pa.array(ends), struct, mask=mask))
