"""Conversations, a template and a helper that the tests of masks share."""

from __future__ import annotations

from chatfmt.errors import RenderError
from chatfmt.render.masks.masker import MaskedText, Masker
from chatfmt.render.single import Chat
from tests.render.templates import say

HELLO = [say("user", "Hi"), say("assistant", "Hello"), say("user", "Bye"), say("assistant", " See you \n")]
SHOUT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content[::-1] }};{% endfor %}{% if add_generation_prompt %}!{% endif %}"
)
"""A template that defeats every method: it reverses the text."""


def mask_or_code(masker: Masker, chat: Chat) -> MaskedText | str:
    try:
        return masker.mask(chat)
    except RenderError as error:
        return error.code
