"""A chat template and its origin: built-in, `.jinja` file, model folder, Hub model, or inline template."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jinja2
from msgspec import Struct, field
from msgspec.structs import replace

from ...errors import ChatfmtError, InputError, TemplateError, UnknownName, UsageError
from ...hub_models import MODEL_ID
from ...lazy import on_call
from ..jinja.environment import DOES_NOT_PARSE, compile_template
from ..jinja.errors import render_error, syntax_error
from ..jinja.rendering import render_text
from ..jinja.row import select_text
from ..types import Moment
from . import builtin, hub, inline, model_files

Origin = Literal["built-in", "file", "folder", "hub", "plain", "inline"]
TRUSTED: tuple[Origin, ...] = ("built-in", "plain")
"""The origins of templates that chatfmt itself has written."""
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""A tag that marks trained text, by the pattern of transformers, which does not match `{%+ generation %}`."""


_render_traced = on_call(__package__, "..engine:render_traced")
"""Engines know templates and not the other way round, except for the public `ChatTemplate.render(engine="trace")`."""


class ChatTemplate(Struct, frozen=True):
    """The text of a template with its special tokens; plain data that can be pickled into tasks.

    `named` holds the texts of a model with several templates (`default` among them, if there is one) and is empty for
    a model with one. Output equals `tokenizer.apply_chat_template(messages, tokenize=False, …)` of transformers.
    """

    name: str
    text: str
    """The template used without tools; empty if `named` has no `default`."""
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = "file"
    revision: str | None = None
    """The commit of a Hub model."""
    instead_of: str | None = None
    """The model that has no template and for which this one stands."""
    date: Moment | None = None
    """The date that `render` passes to the template; None is the time of the call, as in transformers."""

    def __hash__(self) -> int:
        return hash((self.name, self.text, self.origin, self.revision, self.date))

    @staticmethod
    def load(reference: str | os.PathLike[str], *, revision: str | None = None) -> ChatTemplate:
        """Return the template of `-t`: a built-in name, `.jinja` file, model folder, Hub model id, or inline template,
        which is Jinja or has a field per role (see `inline`).

        `MODEL#NAME` selects one of the named templates of a model (`CohereForAI/c4ai-command-r-v01#rag`). The text is
        not compiled. Raises UnknownName, UsageError for an invalid inline template, InputError if the template cannot
        be found or read.
        """
        return load(os.fspath(reference), revision)

    @property
    def sha256(self) -> str:
        """The hash of the text; for a model with named templates, of all of them as JSON."""
        text = json.dumps(dict(self.named), sort_keys=True) if self.named else self.text
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that a render may use."""
        used = [self.named[name] for name in ("default", "tool_use") if name in self.named]
        return tuple(used) if self.named else (self.text,)

    @property
    def reads_date(self) -> bool:
        """Whether the output depends on the date."""
        return any("strftime_now" in text for text in self.texts)

    @property
    def has_generation_tags(self) -> bool:
        """Whether a text has `{% generation %}` tags."""
        return any(GENERATION.search(text) for text in self.texts)

    def select(self, tools: Any) -> str:
        """Return the text for a conversation with these tools; raises ValueError as `row.select_text` does."""
        return select_text(self.text, self.named, tools)

    def choose(self, tools: Any = None) -> str:
        """Return the text as `select` does, but raise TemplateError if the model has none to select."""
        try:
            return self.select(tools)
        except ValueError as error:
            names = ", ".join(f"`{self.name}#{name}`" for name in sorted(self.named))
            message = f"the model `{self.name}` has several chat templates and none is the default"
            raise TemplateError(message, hint=f"name one: {names}") from error

    @property
    def main_text(self) -> str:
        """The text used without tools, or the one with tools if there is no other; raises as `choose` does."""
        return self.named["tool_use"] if self.named.keys() == {"tool_use"} else self.choose()

    def check(self) -> None:
        """Raise TemplateError if `main_text` does not compile."""
        text = self.main_text
        try:
            compile_template(text)
        except DOES_NOT_PARSE as error:
            line = error.lineno if isinstance(error, jinja2.TemplateSyntaxError) else None
            raise syntax_error(self.name, str(error), line) from error

    def render(
        self,
        messages: Any,
        *,
        tools: Any = None,
        documents: Any = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool | str = False,
        engine: Literal["auto", "trace", "jinja"] = "auto",
        **variables: Any,
    ) -> str:
        """Return the text of one conversation, as `apply_chat_template(tokenize=False)` of transformers does.

        `variables` are template variables and win over the special tokens (`bos_token`, …). `engine="trace"` uses the
        traced engine; the others use Jinja, because tracing does not pay for a single conversation. What the template
        leaves out is not looked for, as it is in conversions: `chatfmt.check` does.
        Raises RenderError; its `__cause__` is what Jinja or Python raised.
        """
        if engine not in ("auto", "trace", "jinja"):
            raise UnknownName.of("engine", engine, ("auto", "trace", "jinja"))
        now = self.date or datetime.datetime.now()
        try:
            if engine == "trace":
                how = (add_generation_prompt, continue_final_message)
                return str(_render_traced(self, messages, tools, documents, *how, variables, now))
            return render_text(
                self.select(tools),
                messages,
                tools,
                documents,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                variables={**self.special_tokens, **variables},
                now=now,
            )
        except ChatfmtError:
            raise
        except Exception as error:  # an untrusted template may raise anything
            raise render_error(error, self.name) from error


def special_tokens_of(reference: str) -> dict[str, str]:
    """Return the special tokens of a model folder, Hub model or built-in template.

    Raises InputError if there is no such model.
    """
    path = Path(reference).expanduser()
    if reference and path.is_dir():
        return model_files.tokens(model_files.folder(path))
    if path.is_file():
        raise InputError(f"`{reference}` is not the folder of a model", hint=f"name its folder: `{path.parent}`")
    if known := builtin.find(reference):
        return dict(known.special_tokens)
    if MODEL_ID.fullmatch(reference) and not reference.startswith(".") and not path.exists():
        return model_files.tokens(hub.repository(reference, None))
    raise InputError(f"there is no model folder `{reference}`", hint="check the path; a Hub model id is OWNER/NAME")


def with_tokens_of(template: ChatTemplate, reference: str | None) -> ChatTemplate:
    """Return the template with the special tokens of a model beside its own; as it is without a model."""
    if reference is None:
        return template
    return replace(template, special_tokens={**template.special_tokens, **special_tokens_of(reference)})


def load(reference: str, revision: str | None = None) -> ChatTemplate:
    """Return the template of a name, path, Hub id or inline template; see `ChatTemplate.load`."""
    if reference == "none":
        raise UsageError("`none` is not a template: it means that nothing is rendered", hint="leave `-t` out")
    if not reference.strip():
        raise UsageError("the name of the template is empty", hint="`chatfmt templates list` has the names")
    if inline.is_jinja(reference):
        return ChatTemplate("inline", inline.unescaped(reference), origin="inline")
    is_path = os.path.exists(reference)  # noqa: PTH110 - false, not an error, for a name that is too long
    if inline.is_form(reference) and not is_path:
        return ChatTemplate(reference, inline.to_jinja(reference), origin="plain")
    found, _, name = reference.partition("#") if not is_path else (reference, "", "")
    template = _find(found, revision)
    return _take(template, name) if name else template


def _find(reference: str, revision: str | None) -> ChatTemplate:
    path = Path(reference).expanduser()
    if known := builtin.find(reference):
        return ChatTemplate(known.name, known.text, dict(known.special_tokens), origin="built-in")
    if path.is_dir():
        return _of_model(model_files.folder(path), "folder")
    if path.is_file():
        return _of_file(path)
    if builtin.is_name(reference):
        raise _unknown(reference)
    if MODEL_ID.fullmatch(reference) and not reference.startswith(".") and path.suffix != ".jinja":
        return _of_model(hub.repository(reference, revision), "hub")
    raise InputError(f"there is no template file or model folder `{reference}`", hint="check the path")


def _unknown(reference: str) -> UnknownName:
    close = builtin.close_to(reference)
    meant = f"did you mean `{close[0]}`? " if close else ""
    hint = f"{meant}`chatfmt templates list` has the names; a path or a Hub model id has a `/`"
    return UnknownName(f"unknown template `{reference}`", hint=hint)


def _of_file(path: Path) -> ChatTemplate:
    if path.suffix == ".json":
        raise InputError(f"`{path}` is not a template", hint=f"name its folder: `{path.parent}`")
    return ChatTemplate(str(path), model_files.read_text(path), origin="file")


def _of_model(model: model_files.ModelFiles, origin: Origin) -> ChatTemplate:
    found = model_files.find(model)
    named = {} if isinstance(found.templates, str) else dict(found.templates)
    text = found.templates if isinstance(found.templates, str) else named.get("default", "")
    return ChatTemplate(model.name, text, dict(found.special_tokens), named, origin, model.revision)


def _take(template: ChatTemplate, name: str) -> ChatTemplate:
    if name not in template.named:
        raise UnknownName.of(f"chat template of `{template.name}`", name, template.named or ("default",))
    return replace(template, name=f"{template.name}#{name}", text=template.named[name], named={})
