"""Render columns of conversations to text with a chat template.

`jinja_renderer` defines what rendering means, `engine` chooses how it is done. Names are imported on first use: listing
templates needs no engine, and a sandbox process needs no Arrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attach

if TYPE_CHECKING:
    from .engine import EngineChoice as EngineChoice
    from .engine import choose_engine as choose_engine
    from .engine import compile as compile
    from .engine import isolation_level as isolation_level
    from .engine import needs_sandbox as needs_sandbox
    from .engine import prestart_sandbox as prestart_sandbox
    from .engine import sandbox_sessions as sandbox_sessions
    from .engine import template_renderer as template_renderer
    from .engine import tracer_of as tracer_of
    from .jinja_renderer import JinjaRenderer as JinjaRenderer
    from .options import ENGINES as ENGINES
    from .options import SPANS as SPANS
    from .options import RenderOptions as RenderOptions
    from .sandbox.renderer import Isolation as Isolation
    from .sandbox.renderer import SandboxRenderer as SandboxRenderer
    from .sandbox.sessions import SandboxSessions as SandboxSessions
    from .template.chat_template import ChatTemplate as ChatTemplate
    from .trace.renderer import TracedRenderer as TracedRenderer

__getattr__, __all__ = attach(
    __name__,
    {
        ".engine": (
            "EngineChoice",
            "choose_engine",
            "compile",
            "sandbox_sessions",
            "needs_sandbox",
            "isolation_level",
            "prestart_sandbox",
            "template_renderer",
            "tracer_of",
        ),
        ".jinja_renderer": ("JinjaRenderer",),
        ".options": ("ENGINES", "SPANS", "RenderOptions"),
        ".sandbox.renderer": ("Isolation", "SandboxRenderer"),
        ".sandbox.sessions": ("SandboxSessions",),
        ".template.chat_template": ("ChatTemplate",),
        ".trace.renderer": ("TracedRenderer",),
    },
)
