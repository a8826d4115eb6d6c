"""One conversation and one chat template together: the plain Jinja text, for modules that ask a template questions.

Masks, the content-loss guard, the probe and the comparison render a conversation many times over, each time with other
texts in it. They do it through a `Voice`, so that they need not know options, special tokens or named templates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..errors import Location, RenderError
from .environment import UNDATED, Moment, Span, render_spans, render_text

Turns = Sequence[Mapping[str, Any]]
_GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Source(Protocol):
    """What a `Voice` needs of a `ChatTemplate`."""

    @property
    def name(self) -> str: ...

    @property
    def special_tokens(self) -> Mapping[str, str]: ...

    def choose(self, tools: Any = None) -> str: ...


@dataclass(frozen=True)
class Chat:
    """A conversation and all else that a template sees of its row."""

    messages: Turns
    tools: Any = None
    documents: Any = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    def saying(self, messages: Turns) -> Chat:
        """The same row with other messages."""
        return replace(self, messages=messages)


@dataclass(frozen=True)
class OneText:
    """A `Source` with a single template text, whatever the tools."""

    name: str
    text: str
    special_tokens: Mapping[str, str]

    def choose(self, tools: Any = None) -> str:
        return self.text


@dataclass(frozen=True)
class Voice:
    """A chat template with the variables and the day of a run."""

    template: Source
    variables: Mapping[str, Any] = field(default_factory=dict)
    now: Moment = UNDATED

    def text(self, chat: Chat, *, generation_prompt: bool = False) -> str:
        """The rendered text; raises what Jinja, the template or Python raise."""
        return render_text(
            self.template.choose(chat.tools), chat.messages, chat.tools, chat.documents,
            add_generation_prompt=generation_prompt, variables=self._variables(chat), now=self.now,
        )  # fmt: skip

    def tracked(self, chat: Chat) -> tuple[str, list[Span]]:
        """The rendered text and the spans of its `{% generation %}` blocks; raises as `text` does."""
        return render_spans(
            self.template.choose(chat.tools), chat.messages, chat.tools, chat.documents,
            variables=self._variables(chat), now=self.now,
        )  # fmt: skip

    def attempt(self, chat: Chat, *, generation_prompt: bool = False) -> str | None:
        """The rendered text, or None where the template refuses the conversation for whatever reason."""
        try:
            return self.text(chat, generation_prompt=generation_prompt)
        except (Exception, RecursionError):
            return None

    def chosen(self, chat: Chat) -> Voice:
        """The voice of the one text that the template chooses for this row, with the row's variables."""
        one = OneText(self.template.name, self.template.choose(chat.tools), self.template.special_tokens)
        return replace(self, template=one, variables={**self.variables, **chat.variables})

    @property
    def special_tokens(self) -> dict[str, str]:
        """The special tokens by name, as the variables of the run may override them."""
        given = {**self.template.special_tokens, **self.variables}
        return {name: value for name, value in given.items() if name.endswith("_token") and isinstance(value, str)}

    def has_generation_tag(self, tools: Any = None) -> bool:
        """Whether the template marks what the assistant says, as transformers looks for it."""
        return bool(_GENERATION_TAG.search(self.template.choose(tools)))

    def _variables(self, chat: Chat) -> dict[str, Any]:
        return {**self.template.special_tokens, **self.variables, **chat.variables}


def refusal(error: Exception, row: int | None = None) -> RenderError:
    """The RenderError for what a template raised; its `__cause__` is to be set by `raise … from error`."""
    code = "template.raised" if type(error).__name__ == "TemplateError" else "template.error"
    return RenderError(f"the template refuses it: {error}", code=code, at=Location(row=row))
