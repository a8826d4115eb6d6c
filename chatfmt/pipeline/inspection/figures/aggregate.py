"""The figures of the rows of a source: counts, histograms and examples that add up over batches and shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, field

from .... import checks, mapping
from ....errors import Location
from ....json_columns import JSON, json_values
from ....tokens import Tokenizer
from ....turn_columns import IntArray
from ...conversion.row_counts import RowCounts
from ..statistics import count_characters, count_roles, count_turns, texts_of
from .distinct import Repeats
from .groups import Groups, values_of
from .histogram import LENGTHS, STATISTICS, Histogram, histograms
from .picks import Picks
from .scripts import count_scripts

EXAMPLES = 3
"""Rows that are named for each finding and each reason to reject."""
RAW = 2000
"""Characters of a rejected or suspicious row that are kept."""
RENDERED = ("text", "prompt", "completion", "chosen", "rejected")


class Example(Struct, frozen=True):
    """A row with a finding, or one that was rejected, and the first characters of it."""

    at: Location
    detail: str
    hint: str = ""
    raw: str = ""


class Figures(Struct):
    """The figures of the rows of a source and of their output; those of two parts of a source merge."""

    counts: RowCounts = field(default_factory=RowCounts)
    conversations: int = 0
    roles: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, Histogram] = field(default_factory=histograms)
    rendered: int = 0
    """The characters of rendered text whose training is known."""
    trained: int = 0
    """How many of them a model is trained on."""
    scripts: Counter[str] = field(default_factory=Counter)
    repeats: Repeats = field(default_factory=Repeats)
    examples: dict[str, list[Example]] = field(default_factory=dict)
    picks: Picks | None = None
    groups: Groups | None = None
    """The figures by the values of a column, if they are asked for."""

    def add(
        self, source: pa.RecordBatch, conversations: pa.RecordBatch, output: pa.RecordBatch, tokenizer: Tokenizer | None
    ) -> None:
        """Add the figures of a CONVERSATIONS batch, of the source batch that it was read from, and of its output."""
        self.conversations += len(conversations)
        self.roles.update(count_roles(conversations))
        lengths = {"turns": count_turns(conversations), "characters": count_characters(conversations)}
        self.repeats.add(mapping.row_hash(conversations))
        for _, texts in texts_of(conversations):
            self.scripts.update(count_scripts(texts))
        self._add_trained(output, source)
        if tokenizer is not None and (texts := list(rendered_texts(output).values())):
            counts = [np.asarray(pc.fill_null(tokenizer.count(column), 0), np.int64) for column in texts]
            lengths["tokens"] = np.sum(counts, axis=0)
        elif "num_tokens" in output.schema.names:
            lengths["tokens"] = np.array([int(each) for each in output.column("num_tokens").to_pylist()], np.int64)
        for name, each in lengths.items():
            self.lengths[name].add(each)
        if self.groups is not None and len(conversations):
            alike = {name: each for name, each in lengths.items() if len(each) == len(conversations)}
            self.groups.add(values_of(self.groups.column, source, conversations), alike)

    def _add_trained(self, output: pa.RecordBatch, source: pa.RecordBatch) -> None:
        """Count the characters of spans, or those of completions beside prompts."""
        has_spans = "assistant_spans" in output.schema.names
        rendered = output if "text" in output.schema.names or not has_spans else source
        columns = rendered_texts(rendered).items()
        texts = {name: int(pc.sum(pc.utf8_length(column)).as_py() or 0) for name, column in columns}
        if has_spans and "text" in texts:
            ends = spans_of(output.column("assistant_spans"))
            self.trained += int((ends[:, 1] - ends[:, 0]).sum())
            self.rendered += texts["text"]
        elif set(texts) == {"prompt", "completion"} and "label" not in output.schema.names:
            self.trained, self.rendered = self.trained + texts["completion"], self.rendered + sum(texts.values())

    def example(self, code: str, example: Example) -> bool:
        """Keep an example of a finding if there are few; return whether it was kept."""
        kept = self.examples.setdefault(code, [])
        if len(kept) < EXAMPLES and all(other.at != example.at for other in kept):
            kept.append(example)
            return True
        return False

    def merge(self, other: Figures) -> None:
        """Add the figures of the rows that follow."""
        self.counts.add(other.counts)
        self.conversations += other.conversations
        self.rendered, self.trained = self.rendered + other.rendered, self.trained + other.trained
        self.roles.update(other.roles)
        self.scripts.update(other.scripts)
        self.repeats.merge(other.repeats)
        for name, lengths in other.lengths.items():
            self.lengths[name].merge(lengths)
        for code, examples in other.examples.items():
            for example in examples:
                self.example(code, example)
        if self.picks is not None and other.picks is not None:
            self.picks.merge(other.picks)
        if self.groups is not None and other.groups is not None:
            self.groups.merge(other.groups)

    @property
    def findings(self) -> dict[str, int]:
        """The rows with each finding, and those rejected for each reason that is not a finding."""
        return {**self.counts.findings, **self.counts.reasons}

    @property
    def trained_share(self) -> float | None:
        """The share of the characters that a model is trained on; None if it is not known."""
        return self.trained / self.rendered if self.rendered else None


def rendered_texts(output: pa.RecordBatch) -> dict[str, pa.StringArray]:
    """Return the columns of text that a model reads."""
    return {
        name: output.column(name)
        for name in RENDERED
        if name in output.schema.names and output.column(name).type == pa.string()
    }


def as_list(column: pa.Array) -> pa.ListArray:
    """Return a list column; of a JSON column the lists that it holds."""
    return pa.array(json_values(column)) if column.type == JSON else column


def spans_of(column: pa.Array) -> IntArray:
    """Return the [start, end) of all spans in a column of lists of them, in rows of two."""
    return np.asarray(as_list(column).flatten().flatten(), np.int64).reshape(-1, 2)


def shortened(raw: bytes | None) -> str:
    text = "" if raw is None else raw.decode(errors="backslashreplace")
    return text if len(text) <= RAW else f"{text[:RAW]}… {len(text) - RAW:,} more characters"


COUNTS: Mapping[str, Callable[[Figures], int]] = {
    "rows": lambda figures: figures.counts.read,
    "conversations": lambda figures: figures.conversations,
    "rejected": lambda figures: figures.counts.rejected,
    "filtered": lambda figures: figures.counts.filtered,
    "duplicates": lambda figures: figures.repeats.repeated,
    "warnings": lambda figures: figures.counts.findings.total(),
    "left_columns": lambda figures: len(figures.counts.left_column),
    "left_keys": lambda figures: len(figures.counts.left_key),
}


def known_names() -> list[str]:
    """Return every name that `--fail-if` knows."""
    lengths = [f"{statistic}_{name}" for name in LENGTHS for statistic in STATISTICS]
    return [*COUNTS, *lengths, "trained_share", "over_max_tokens", *checks.CHECKS]


def values(found: Sequence[Figures], limit: int | None) -> Mapping[str, float]:
    """Return every figure that has a value by the name that `--fail-if` knows it by."""
    figures = Figures()
    for each in found:
        figures.merge(each)
    named: dict[str, float] = {name: count(figures) for name, count in COUNTS.items()}
    named |= dict.fromkeys(checks.CHECKS, 0) | figures.findings
    for name, lengths in figures.lengths.items():
        named |= {f"{statistic}_{name}": value for statistic, value in lengths.statistics()}
    if figures.trained_share is not None:
        named["trained_share"] = figures.trained_share
    if limit is not None and figures.lengths["tokens"].count:
        named["over_max_tokens"] = figures.lengths["tokens"].above(limit)
    return named
