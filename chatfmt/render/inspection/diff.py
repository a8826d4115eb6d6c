"""Compare two templates on conversations: how many rows differ, where the first difference is, what it looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from ..masks.turn_boundaries import common_prefix
from ..options import RenderOptions
from ..single import Chat, ConversationRenderer, TemplateRenderer
from ..template.chat_template import ChatTemplate

EXAMPLES = 3
_CONTEXT = 40
"""Characters shown before and after a difference."""


class Example(Struct, frozen=True):
    """A conversation that the two templates render differently."""

    row: int
    character: int | None
    """The first code point at which the texts differ; None if one of the templates refuses the row."""
    first: str
    second: str
    """The text of each template around the difference, or the error it raised."""


class Difference(Struct, frozen=True):
    """The result of a comparison."""

    rows: int
    differing: int
    first_row: int | None = None
    first_character: int | None = None
    """The first differing code point of the first row that differs."""
    examples: tuple[Example, ...] = field(default=())

    @property
    def same(self) -> bool:
        return not self.differing

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return {
            "rows": self.rows,
            "differing": self.differing,
            "first_row": self.first_row,
            "first_character": self.first_character,
            "examples": [asdict(example) for example in self.examples],
        }


def compare(
    first: ChatTemplate,
    second: ChatTemplate,
    conversations: Iterable[Chat],
    options: RenderOptions | None = None,
    *,
    sandbox: Callable[[ChatTemplate], ConversationRenderer | None] = lambda template: None,
) -> Difference:
    """Compare the texts of two templates; rows count from 0. A row that both templates refuse counts as the same.

    `sandbox` returns where a template runs; None for in this process.
    """
    renderers = [TemplateRenderer(each, options or RenderOptions(), sandbox(each)) for each in (first, second)]
    rows = differing = 0
    found: list[Example] = []
    for row, chat in enumerate(conversations):
        rows += 1
        (one, one_failed), (two, two_failed) = (_text_or_error(renderer, chat) for renderer in renderers)
        if (one_failed and two_failed) or (one == two and not (one_failed or two_failed)):
            continue
        differing += 1
        if len(found) < EXAMPLES:
            found.append(_example(row, one, two, failed=one_failed or two_failed))
    if not found:
        return Difference(rows, differing)
    return Difference(rows, differing, found[0].row, found[0].character, tuple(found))


def _text_or_error(renderer: TemplateRenderer, chat: Chat) -> tuple[str, bool]:
    """Return the rendered text or the error message, and whether it is an error."""
    try:
        return renderer.text(chat), False
    except Exception as error:  # a template is an untrusted program: it may raise anything
        return f"{type(error).__name__}: {error}", True


def _example(row: int, one: str, two: str, *, failed: bool) -> Example:
    if failed:
        return Example(row, None, one[: 4 * _CONTEXT], two[: 4 * _CONTEXT])
    offset = len(common_prefix(one, two))
    window = slice(max(0, offset - _CONTEXT), offset + _CONTEXT)
    return Example(row, offset, one[window], two[window])
