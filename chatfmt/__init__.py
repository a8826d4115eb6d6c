"""Convert chat and instruction datasets to training-ready files.

recipe = chatfmt.Recipe(source="data.jsonl", template="chatml")
chatfmt.inspect(recipe)                                    # what is in the source, and how it is read
chatfmt.convert(recipe, out="out/")
chatfmt.stats(recipe)                                      # the figures of all rows
chatfmt.report(recipe, "report.html")                      # one page to read
chatfmt.Converter(recipe)(batch)                           # one Arrow record batch
chatfmt.ChatTemplate.load("chatml").render(messages)       # one conversation
chatfmt.unescape(text, "chatml")                           # undo `--control-tokens escape`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import attach

if TYPE_CHECKING:
    from .errors import ChatfmtError
    from .pipeline import Converter, Summary, convert
    from .pipeline.inspection.check import check
    from .pipeline.inspection.figures.plain import stats
    from .pipeline.inspection.inspect import Inspection, inspect
    from .pipeline.inspection.report.page import report
    from .recipe import Recipe
    from .render.safety.control_tokens import escape, unescape
    from .render.template.chat_template import ChatTemplate

__version__ = "0.1.0"
__all__ = [
    "ChatTemplate", "ChatfmtError", "Converter", "Inspection", "Recipe", "Summary", "__version__", "check",
    "convert", "escape", "inspect", "report", "stats", "unescape",
]  # fmt: skip

__getattr__, _ = attach(
    __name__,
    {
        ".errors": ("ChatfmtError",),
        ".pipeline": ("Converter", "Summary", "convert"),
        ".pipeline.inspection.check": ("check",),
        ".pipeline.inspection.figures.plain": ("stats",),
        ".pipeline.inspection.inspect": ("Inspection", "inspect"),
        ".pipeline.inspection.report.page": ("report",),
        ".recipe": ("Recipe",),
        ".render.safety.control_tokens": ("escape", "unescape"),
        ".render.template.chat_template": ("ChatTemplate",),
    },
)


def __dir__() -> list[str]:
    """Return the public names, imported or not, for completion and `help`."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
