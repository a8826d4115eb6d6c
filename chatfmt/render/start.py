"""Start what needs no engine before the engine is imported, which takes a tenth of a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sandbox import interpreters
from .template import builtin, inline

if TYPE_CHECKING:
    from .sandbox.renderer import Isolation


def prestart(reference: str | None, isolation: Isolation) -> None:
    """Compile the template of `-t`, if it is a built-in one, or start what forks the sandbox processes that it needs.

    Workers that are forked later share it.
    """
    if reference is None or reference == "none" or inline.is_form(reference):
        return
    if builtin.find(reference) is not None:
        from .template.chat_template import ChatTemplate

        ChatTemplate.load(reference).check()
    elif isolation != "off":
        interpreters.server()
