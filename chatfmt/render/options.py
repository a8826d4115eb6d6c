"""The options of a run that every renderer follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ..errors import UsageError
from ..rendering import RenderRequest
from .types import UNDATED, Moment

Engine = Literal["auto", "trace", "jinja"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
SPANS = pa.list_(pa.list_(pa.int32()))
"""The type of a column of spans: a list of `[start, end)` per row, in code points of its text."""


class RenderOptions(Struct, frozen=True):
    """Settings for rendering the conversations of a run."""

    generation_prompt: bool = False
    continue_final: bool | str = False
    """Cut the text where the last message's content (or the field of this name) ends, for a model to continue."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Template variables. They override special tokens, and the `template_kwargs` of a row override them."""
    date: Moment = UNDATED
    engine: Engine = "auto"
    bos: Literal["keep", "strip"] = "keep"
    """`strip` removes one `bos_token` from the start of each text, for trainers that add their own."""

    def resolved(self, request: RenderRequest) -> RenderRequest:
        """Return the request with the generation prompt of the run if it leaves that open.

        Raises UsageError for spans with `continue_final`.
        """
        if request.spans and self.continue_final:
            raise UsageError("`--continue-final` cannot be combined with spans of trained text", hint="leave one out")
        return (
            replace(request, generation_prompt=self.generation_prompt) if request.generation_prompt is None else request
        )
