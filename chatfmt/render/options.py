"""What a renderer is asked and what it answers: the face that every engine shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ..rendering import RenderRequest
from .types import UNDATED, Moment

Engine = Literal["auto", "trace", "jinja"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
SPANS = pa.list_(pa.list_(pa.int32()))
"""The type of a column of spans: for each row a list of `[start, end]`, in code points of its text, end exclusive."""


class RenderOptions(Struct, frozen=True):
    """How every conversation of a run is rendered."""

    generation_prompt: bool = False
    continue_final: bool | str = False
    """Cut the text where the last message's content (or the field of this name) ends, so that a model goes on."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Template variables; they win over special tokens of the same name, and a row's `template_kwargs` over them."""
    date: Moment = UNDATED
    engine: Engine = "auto"
    bos: Literal["keep", "strip"] = "keep"
    """`strip` takes one `bos_token` from the start of each text that has it there: for trainers that add their own."""
    fitted: bool = False
    """Whether conversations were adapted to the template already (`--fit`): then no hint advises it."""

    def resolved(self, request: RenderRequest) -> RenderRequest:
        """What a call asks for, with the generation prompt of the run where the call leaves it open."""
        return (
            replace(request, generation_prompt=self.generation_prompt) if request.generation_prompt is None else request
        )
