"""Render columns of conversations to text with a chat template.

`jinja_renderer` defines what rendering means, `engine` chooses how it is done. Names are imported on first use: listing
templates needs no engine, and a sandbox process needs no Arrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .engine import (
        EngineChoice,
        choose_engine,
        compile,
        isolation_level,
        needs_sandbox,
        sandbox_sessions,
        template_renderer,
        tracer_of,
    )
    from .jinja_renderer import JinjaRenderer
    from .options import RenderOptions
    from .sandbox.renderer import Isolation, SandboxRenderer
    from .start import prestart
    from .template.chat_template import ChatTemplate
    from .trace.renderer import TracedRenderer

__getattr__, __all__ = attach(
    __name__,
    {
        ".engine": (
            "EngineChoice", "choose_engine", "compile", "isolation_level", "needs_sandbox",
            "sandbox_sessions", "template_renderer", "tracer_of",
        ),
        ".jinja_renderer": ("JinjaRenderer",),
        ".options": ("RenderOptions",),
        ".sandbox.renderer": ("Isolation", "SandboxRenderer"),
        ".start": ("prestart",),
        ".template.chat_template": ("ChatTemplate",),
        ".trace.renderer": ("TracedRenderer",),
    },
)  # fmt: skip
