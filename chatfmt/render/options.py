"""What a renderer is asked and what it answers: the face that every engine shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import RenderError
from .environment import UNDATED, Moment

Engine = Literal["auto", "trace", "jinja"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
SPANS = pa.list_(pa.list_(pa.int32()))
"""The type of a column of spans: for each row a list of `[start, end]`, in code points of its text, end exclusive."""


@dataclass(frozen=True)
class RenderOptions:
    """How every conversation of a run is rendered."""

    generation_prompt: bool = False
    continue_final: bool | str = False
    """Cut the text where the last message's content (or the field of this name) ends, so that a model goes on."""
    variables: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Template variables; they win over special tokens of the same name, and a row's `template_kwargs` over them."""
    date: Moment = UNDATED
    engine: Engine = "auto"
    bos: Literal["keep", "strip"] = "keep"
    """`strip` takes one `bos_token` from the start of each text that has it there: for trainers that add their own."""


@dataclass(frozen=True)
class Rendered:
    """The text of each conversation, null where there is none, and its generation spans where they were asked for."""

    text: pa.StringArray
    spans: pa.ListArray | None = None
    whole: npt.NDArray[np.bool_] | None = None
    """Which rows are known to print every text of their conversation; None where nothing is known."""


class Renderer(Protocol):
    """Conversations to text; `engine` and `reason` say which engine it is and why it was chosen."""

    engine: str
    reason: str

    def __call__(
        self,
        messages: pa.ListArray,
        tools: pa.Array | None = None,
        documents: pa.Array | None = None,
        template_kwargs: pa.Array | None = None,
        *,
        generation_prompt: bool | None = None,
        spans: bool = False,
        failures: list[RenderError] | None = None,
    ) -> Rendered:
        """The text of each conversation of a messages column, null for null.

        `tools`, `documents` and `template_kwargs` are JSON columns of the same length. `generation_prompt` overrules
        the options for one call; `spans` asks for the spans of `{% generation %}` blocks. A row that fails raises
        RenderError with its index in the column; with `failures` the error is appended there and the text is null.
        """
        ...
