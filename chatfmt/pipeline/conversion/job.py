"""Jobs and tasks: frozen data that any executor can send to any process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ...dialects import Columns
from ...mapping import FieldMapping
from ...render import Isolation, RenderOptions
from ...render.ending import End
from ...render.masks.masker import MaskOptions
from ...render.safety.control_tokens import ControlTokenPolicy
from ...render.template.chat_template import ChatTemplate
from ...schema import IgnoredWeights
from ...sources import InputSplit
from ...stores import is_remote
from ..ledger.ledger import Ledger
from .output.packing import Packing


class Job(Struct, frozen=True, eq=False):
    """Everything that turns rows of a source into rows of output, except the rows.

    It has the keys of the recipe that tasks need, so that workers do not import recipes. `schema` is set if every shard
    must have the same columns (Parquet).
    """

    key: str
    """Identifies the job in a worker process that caches its conversion: same key, same job."""
    dialect: str
    columns: Columns
    view: str | None
    """None writes only the pass-through columns."""
    mapping: FieldMapping | None = None
    nulls: bool = False
    """Whether a null in the source is a value (Parquet, Arrow) and not an absent key (JSON)."""
    transforms: Mapping[str, Any] = field(default_factory=dict)
    media: tuple[str, ...] = ()
    """The columns of media that every output batch has, of `schema.MEDIA`."""
    media_tags: bool = False
    embed_media: bool = False
    fail_on: tuple[str, ...] = ()
    strict: bool = False
    template: ChatTemplate | None = None
    fitted: bool = False
    """Whether conversations are adapted to the template, so that no hint suggests it."""
    options: RenderOptions = field(default_factory=RenderOptions)
    isolation: Isolation = "auto"
    """Whether an untrusted template runs in the sandbox."""
    mask: MaskOptions | None = None
    """The selection of the text to train on; None if no spans are needed."""
    weighted: bool = False
    """Whether rows of the sample have weights other than 0 and 1, which are written beside the spans."""
    allows_untrained: bool = False
    """Whether rows without trained text pass although there is a mask, as in a preview."""
    end: End | None = None
    """How rendered texts end, None for as the template ends them; see `render.ending`."""
    tagged_template: ChatTemplate | None = None
    """The template with tags that mark whole turns, where it has none itself; see `render.tagging`."""
    allow_loss: tuple[str, ...] = ()
    control_tokens: ControlTokenPolicy = "keep"
    tokenizer: str | None = None
    tokenizer_sha256: str | None = None
    """The `tokens.content` of the tokenizer when it was planned; another one is not used."""
    max_tokens: int | None = None
    over_length: str = "error"
    packing: Packing | None = None
    fraction: float = 1.0
    """The fraction of the conversations to keep, chosen by their hashes and `seed`."""
    seed: int = 0
    ignored_weights: IgnoredWeights = "none"
    """Which weights of answers the trainer does not read, so that they are errors."""
    unread_calls: str = ""
    """What to type for calls and results, which the trainer does not read; empty if it does."""
    in_blocks: bool = False
    """Whether each row of the source becomes a good and a bad answer, which are written far apart; see `blocks`."""
    keeps_parts: bool = False
    """Whether content that is a list of text parts stays one, since other content in the sample has other parts."""
    reports_types: bool = False
    """Whether shards report the types of their columns, which JSON Lines do not hold: for the card, and for a note."""
    tagged: bool = False
    """Whether each row carries the hash of its conversation, to reorder rows afterwards."""
    dedup_by: str | None = None
    split_by: str | None = None
    """The columns or paths whose values stand for the conversation in these hashes."""
    read: tuple[str, ...] | None = None
    """The source columns to read; None for all."""
    skip: frozenset[str] = frozenset()
    """The columns of text formats that need not be read, if `read` is None."""
    drop: tuple[str, ...] = ()
    """The columns that are dropped before a dialect reads the rows."""
    ledger: Ledger = field(default_factory=Ledger)
    """What is known about the leaves of the source from its sample."""
    whole_file: bool = False
    """Whether the dialect must see all rows of a file at once."""
    skip_bad: bool = False
    format: str = "jsonl"
    compression: str | None = None
    schema: pa.Schema | None = None
    """The schema of every shard; its columns have their own names."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """The names under which columns are written, where they are not their own."""


class RowRange(Struct, frozen=True):
    """Rows [first, stop) of a file that a task is converting; `stop` is None while it reads them."""

    file: str
    first: int
    stop: int | None = None
    bytes: int = 0
    """The bytes that the task has read so far, in memory."""
    rejected: int = 0
    """The rows that the task has rejected so far."""

    def __str__(self) -> str:
        if self.stop is None:
            return f"`{self.file}`, while reading it from row {self.first} on"
        return f"`{self.file}` row{'s' if self.stop - self.first > 1 else ''} {self.rows}"

    @property
    def rows(self) -> str:
        """`7`, or `0 to 999`."""
        last = (self.stop or 0) - 1
        return str(self.first) if last <= self.first else f"{self.first} to {last}"


class Task(Struct, frozen=True):
    """Input splits to convert into one output shard; same task, same bytes."""

    job: Job
    inputs: tuple[InputSplit, ...]
    split: str
    name: str
    """The final name of the shard in the output, `data/train-00000-of-00007.parquet`."""
    state: Path
    """The folder of the run, where shards are staged until the commit."""
    fingerprint: str
    source: int = 0
    """The index of the source in the recipe."""
    suspect: RowRange | None = None
    """The rows to convert one by one, to find the one that crashes the process; nothing is written then."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The local files that have to be where the task runs, its folder by the record that is in it."""
        record = self.state / "run.json"
        state = [str(record)] if self.state.is_absolute() and record.exists() else []
        tokenizer = [self.job.tokenizer] if self.job.tokenizer and Path(self.job.tokenizer).is_absolute() else []
        return (*(split.uri for split in self.inputs if not is_remote(split.uri)), *tokenizer, *state)

    def row_by_row(self, position: RowRange) -> Task:
        """Return the task that finds the row in `position` that crashes the process; see `executors`."""
        return replace(self, suspect=position)
