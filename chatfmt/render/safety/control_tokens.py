"""Control tokens inside what people wrote: found, counted, and kept, dropped, escaped or rejected.

The text `<|im_end|>` in a message is the control token `<|im_end|>` for any tokenizer that reads the rendered text.
What counts as one is told by the template: its special tokens, and the tokens in its own literal text.

Escaping breaks tokens up so that the text alone says what it was before; see `escaping`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import TemplateSyntaxError, nodes
from msgspec import Struct, field

from ...errors import ChatfmtError, CheckError, Location
from ...json_columns import JSON, TEXT, dumps, is_turns
from ...schema import CONVERSATION_COLUMNS, KEYS
from ..jinja.environment import sandbox
from ..masks.turn_boundaries import TOKEN
from ..single import Source
from ..template.chat_template import ChatTemplate
from .escaping import escaper

Policy = Literal["keep", "drop", "escape", "reject"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
ESCAPES = "control_escapes"
"""The column that `escape` adds: for each row with escapes a JSON list of `[column, message, field, place, token]`."""
_SHAPE = re.compile(TOKEN)
_SHORTEST = 3
BLANKS = " \t\n\r\v\f"


def control_literals(template: Source, extra: Iterable[str] = ()) -> tuple[str, ...]:
    """The control tokens of a template, longest first: its special tokens, those in its literal text, and `extra`.

    A template that does not compile has its special tokens alone.
    """
    special = [token for token in template.special_tokens.values() if isinstance(token, str)]
    found = {match[0] for text in _sources(template) for match in _SHAPE.finditer("\n".join(_literals(text)))}
    tokens = (token for token in {*special, *found, *extra} if len(token.strip()) >= _SHORTEST)
    return tuple(sorted(tokens, key=lambda token: (-len(token), token)))


def _sources(template: Source) -> Iterator[str]:
    """The texts that the template may choose."""
    choices: tuple[object, ...] = (None, [{}])
    for tools in choices:
        try:
            yield template.choose(tools)
        except ChatfmtError:  # a model whose only template is for tools
            continue


@lru_cache(maxsize=64)
def _literals(text: str) -> tuple[str, ...]:
    """The text between a template's tags, and the strings inside them."""
    try:
        tree = sandbox().parse(text)
    except (TemplateSyntaxError, RecursionError):
        return ()
    nodes_found = tree.find_all((nodes.TemplateData, nodes.Const))
    values = (
        node.data if isinstance(node, nodes.TemplateData) else getattr(node, "value", None) for node in nodes_found
    )
    return tuple(value for value in values if isinstance(value, str))


class Edges(Struct, frozen=True, dict=True):
    """The parts of tokens that a text may end or begin with, so that the template's text completes them: the tokens."""

    ends: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, str] = field(default_factory=dict)

    def places(self, column: pa.Array) -> npt.NDArray[np.int64]:
        """The places of a text column with such an edge; blanks around a text are often trimmed, and do not count."""
        if not self.ends and not self.starts:
            return np.zeros(0, np.int64)
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset :][: len(column) + 1]
        long = np.flatnonzero(np.diff(offsets) > 1)
        data = np.frombuffer(column.buffers()[2] or b"", np.uint8)
        begin, end = offsets[long], offsets[long + 1]
        first, last = self._pairs
        likely = long[first[data[begin], data[begin + 1]] | last[data[end - 2], data[end - 1]]]
        near = np.union1d(likely, np.flatnonzero(np.diff(offsets) == 1))
        texts = column.take(pa.array(near)).to_pylist()
        return near[[place for place, text in enumerate(texts) if text is not None and self.token(text)]]

    @cached_property
    def _pairs(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which two bytes a text with such an edge can begin with, and end with: of most texts no more is looked at."""
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
        """The token that an edge of a text makes; empty for none."""
        text = text.strip(BLANKS)
        ending = (token for part, token in self.ends.items() if text.endswith(part))
        return next(ending, "") or next((token for part, token in self.starts.items() if text.startswith(part)), "")


def control_edges(template: Source) -> Edges:
    """The edges that the literal text of a template completes to control tokens; none for most templates."""
    texts = [literal for text in _sources(template) for literal in _literals(text)]
    literals = {text for text in (*texts, *template.special_tokens.values()) if isinstance(text, str) and text}
    ends: dict[str, str] = {}
    starts: dict[str, str] = {}
    for token in control_literals(template):
        for cut in range(1, len(token)):
            if any(literal.startswith(token[cut:]) for literal in literals):
                ends.setdefault(token[:cut], token)
            if any(literal.endswith(token[:cut]) for literal in literals):
                starts.setdefault(token[cut:], token)
    return Edges(ends, starts)


class Finding(Struct, frozen=True):
    """One field of a batch with a control token in it."""

    row: int
    message: int | None
    field: str
    tokens: tuple[str, ...]
    beside: bool = False
    """Whether the token is only there once the template's own text stands beside the field's."""

    @property
    def code(self) -> str:
        return "token.boundary" if self.beside else "token.control"

    def error(self) -> CheckError:
        if self.beside:
            text = f"`{self.field}` and the template's own text beside it may make the control token `{self.tokens[0]}`"
            hint = "`--control-tokens drop` leaves the row out, `keep` leaves it in"
            return CheckError(text, hint=hint, at=Location(row=self.row, message=self.message), code=self.code)
        text = f"the control token `{self.tokens[0]}` is in `{self.field}`"
        hint = "`--control-tokens escape` breaks such tokens up, `drop` leaves the row out, `keep` leaves them in"
        return CheckError(text, hint=hint, at=Location(row=self.row, message=self.message), code=self.code)


class Outcome(Struct, frozen=True):
    """A batch after a policy: what it became, what was found in it, and the rows that were dropped or rejected."""

    batch: pa.RecordBatch
    counts: Mapping[str, int]
    """How often each token was found."""
    rows: tuple[int, ...]
    """The rows with a token in them, or that `escape` changed, as indices of the batch that was given."""
    rejected: tuple[CheckError, ...] = ()
    findings: Mapping[str, int] = field(default_factory=dict)
    """How many rows have something of each code."""


class Scanner:
    """Looks for a template's control tokens in the columns of conversations, in one pass over their text.

    `edges` are what a text may begin or end with to be a token together with the template's text beside it.
    """

    def __init__(self, tokens: Sequence[str], edges: Edges | None = None) -> None:
        self.tokens, self._edges = tuple(tokens), edges or Edges()
        self._exact = re.compile("|".join(map(re.escape, tokens)) or r"(?!)")

    @cached_property
    def _patterns(self) -> tuple[str, ...]:
        """A pattern for the tokens of each first character, which is looked for ten times as fast as several are."""
        return tuple(
            "|".join(re.escape(token) for token in self.tokens if token[:1] == first)
            for first in dict.fromkeys(token[:1] for token in self.tokens)
        )

    def suspects(self, column: pa.Array) -> npt.NDArray[np.int64]:
        """The places of a text or JSON column at which a token is."""
        hits = np.zeros(len(column), np.bool_)
        for pattern in self._patterns:
            hits |= pc.match_substring_regex(column, pattern).fill_null(False).to_numpy(zero_copy_only=False)
        return np.flatnonzero(hits)

    def search(self, text: str) -> list[str]:
        """The tokens in a text, in order."""
        return self._exact.findall(text)

    def findings(self, batch: pa.RecordBatch) -> list[Finding]:
        """Every field of the conversations, tools and documents of a batch that has a token, by column."""
        found = []
        for texts in _texts(batch):
            for place in self.suspects(texts.values).tolist():
                if tokens := self.search(texts.values[place].as_py()):
                    found.append(Finding(*texts.locate(place), texts.field, tuple(tokens)))
            if texts.values.type == TEXT:
                for place in self._edges.places(texts.values).tolist():
                    token = self._edges.token(texts.values[place].as_py())
                    found.append(Finding(*texts.locate(place), texts.field, (token,), beside=True))
        return found

    def apply(self, batch: pa.RecordBatch, policy: Policy) -> Outcome:
        """The batch under a policy.

        `keep` changes nothing, `drop` leaves the rows out, `reject` too, with an error for each; `escape` breaks every
        token, and what looks like a broken one, and records where, in the column `ESCAPES`.
        """
        found = self.findings(batch) if self.tokens else []
        counts = Counter(token for finding in found for token in finding.tokens)
        if policy == "escape" and self.tokens:
            escaped, changed = self._escaped(batch)
            return Outcome(escaped, counts, changed, tuple(finding.error() for finding in found if finding.beside))
        rows = tuple(sorted({finding.row for finding in found}))
        if not rows or policy == "keep":
            codes = Counter(code for _, code in {(finding.row, finding.code) for finding in found})
            return Outcome(batch, counts, rows, findings=codes)
        kept = np.ones(len(batch), np.bool_)
        kept[list(rows)] = False
        first = {finding.row: finding for finding in reversed(found)}
        errors = tuple(first[row].error() for row in rows) if policy == "reject" else ()
        return Outcome(batch.filter(pa.array(kept)), counts, rows, errors)

    def _escaped(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, tuple[int, ...]]:
        """The batch with its texts escaped and the column `ESCAPES`, and the rows that this changed."""
        notes: dict[int, list[list[object]]] = {}
        made = escaper(self.tokens)
        for texts in list(_texts(batch)):
            changed: dict[int, str] = {}
            for place in _places(texts.values, made.patterns).tolist():
                changed[place], escapes = made.escape(texts.values[place].as_py())
                row, message = texts.locate(place)
                notes.setdefault(row, []).extend(
                    [texts.column, message, texts.field, at, token] for at, token in escapes
                )
            if changed:
                values = [changed.get(place, value) for place, value in enumerate(texts.values.to_pylist())]
                batch = _with(batch, texts, pa.array(values, texts.values.type))
        written = [dumps(notes[row]) if row in notes else None for row in range(len(batch))]
        return batch.append_column(ESCAPES, pa.array(written, JSON)), tuple(sorted(notes))


def _places(column: pa.Array, patterns: Iterable[str]) -> npt.NDArray[np.int64]:
    """The places of a text column that one of the patterns matches."""
    hits = np.zeros(len(column), np.bool_)
    for pattern in patterns:
        hits |= pc.match_substring_regex(column, pattern).fill_null(False).to_numpy(zero_copy_only=False)
    places: npt.NDArray[np.int64] = np.flatnonzero(hits)
    return places


def escape(text: str, template: Source | str) -> str:
    """The text with the control tokens of a template, or of the one of that name, broken up: `< |im_end|>`.

    That is what `--control-tokens escape` does to what people wrote, and what a model trained on it should be asked
    with. A text that looks so already gets one blank more; `unescape` is the way back for every text.
    """
    return escaper(control_literals(_loaded(template))).escape(text)[0]


def unescape(text: str, template: Source | str) -> str:
    """The text before `escape`, or what `--control-tokens escape` made of it; other texts come back as they are.

    It also takes a whole rendered text: the template's own tokens are left alone.
    """
    return escaper(control_literals(_loaded(template))).unescape(text)


def _loaded(template: Source | str) -> Source:
    return ChatTemplate.load(template) if isinstance(template, str) else template


class Texts(Struct, frozen=True):
    """The values of one text field of a batch: a field of messages, or a column of its own."""

    column: str
    field: str
    values: pa.Array
    rows: npt.NDArray[np.int64]
    """The row of each value."""
    starts: npt.NDArray[np.int64] | None = None
    """Where the messages of each row begin among the values; None for a column of its own."""

    def locate(self, place: int) -> tuple[int, int | None]:
        """The row and the message of a value."""
        row = int(self.rows[place])
        return row, None if self.starts is None else place - int(self.starts[row])


def _texts(batch: pa.RecordBatch) -> Iterator[Texts]:
    """Each text field of a batch that people wrote: of messages (but for roles), tools and documents."""
    for name in (*CONVERSATION_COLUMNS, "tools", "documents"):
        place = batch.schema.get_field_index(name)
        column = batch.column(place) if place >= 0 else None
        if column is None:
            continue
        if not is_turns(column.type):
            if column.type in (TEXT, JSON):
                yield Texts(name, name, column, np.arange(len(column)))
            continue
        lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        rows, starts = np.repeat(np.arange(len(lengths)), lengths), np.cumsum(lengths) - lengths
        turns = column.flatten()
        for item, values in zip(turns.type, turns.flatten(), strict=True):
            if item.type in (TEXT, JSON) and item.name not in ("role", KEYS):
                yield Texts(name, item.name, values, rows, starts)


def _with(batch: pa.RecordBatch, texts: Texts, values: pa.Array) -> pa.RecordBatch:
    """The batch with other values for one text field."""
    place = batch.schema.get_field_index(texts.column)
    column = batch.column(place)
    if texts.starts is None:
        return batch.set_column(place, texts.column, values)
    turns = column.flatten()
    names = [field.name for field in turns.type]
    arrays = [values if name == texts.field else old for name, old in zip(names, turns.flatten(), strict=True)]
    ends = np.append(texts.starts, len(turns)).astype(np.int32)
    struct = pa.StructArray.from_arrays(arrays, names=names)
    mask = column.is_null() if column.null_count else None
    return batch.set_column(place, texts.column, pa.ListArray.from_arrays(pa.array(ends), struct, mask=mask))
