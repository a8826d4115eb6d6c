"""What a conversion is, by value: frozen data that any executor can carry to any process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ...dialects import Columns
from ...mapping import Mapping as FieldMapping
from ...render import Isolation, RenderOptions
from ...render.masks.masker import MaskOptions
from ...render.safety.control_tokens import Policy
from ...render.template.chat_template import ChatTemplate
from ...sources import InputSplit


class Job(Struct, frozen=True, eq=False):
    """All that turns rows of a source into rows of output, beside the rows.

    `schema` is set where every shard must have the same columns (Parquet); JSON Lines describe themselves.
    """

    key: str
    """Names the job in the processes that keep it get_conversion: same key, same job."""
    dialect: str
    columns: Columns
    view: str | None
    """None makes the kept columns alone."""
    mapping: FieldMapping | None = None
    nulls: bool = False
    """Whether a null of the source is a value (Parquet, Arrow) and not an absent key (JSON)."""
    transforms: Mapping[str, Any] = field(default_factory=dict)
    fail_on: tuple[str, ...] = ()
    strict: bool = False
    template: ChatTemplate | None = None
    options: RenderOptions = field(default_factory=RenderOptions)
    isolation: Isolation = "auto"
    """Whether a stranger's template runs in a locked process."""
    mask: MaskOptions | None = None
    """What of a rendered text counts as trained; None where nobody asked."""
    allow_loss: tuple[str, ...] = ()
    control_tokens: Policy = "keep"
    tokenizer: str | None = None
    max_tokens: int | None = None
    over_length: str = "error"
    fraction: float = 1.0
    """The part of the conversations to take, chosen by their hashes and `seed`."""
    seed: int = 0
    tagged: bool = False
    """Whether each row carries the hash of its conversation, for `select`."""
    read: tuple[str, ...] | None = None
    """The source columns that are needed; None for all."""
    whole_file: bool = False
    """Whether the dialect must see all rows of a file at once."""
    skip_bad: bool = False
    format: str = "jsonl"
    compression: str | None = None
    schema: pa.Schema | None = None


class RowRange(Struct, frozen=True):
    """Rows [first, stop) of a file that a task is at work on; `stop` is None while it reads them."""

    file: str
    first: int
    stop: int | None = None

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
    """A run of input splits to one output shard; same task, same bytes."""

    job: Job
    inputs: tuple[InputSplit, ...]
    split: str
    name: str
    """The final name of the shard in the output, `data/train-00000-of-00007.parquet`."""
    state: Path
    """The folder of the run, where the shard waits until all are there."""
    fingerprint: str
    source: int = 0
    """The number of the source in the recipe."""
    suspect: RowRange | None = None
    """Where to go row by row, to find the one that ends the process; nothing is written then."""

    def row_by_row(self, place: RowRange) -> Task:
        """The task that tells more exactly than `place` where it ends the process; see `executors`."""
        return replace(self, suspect=place)
