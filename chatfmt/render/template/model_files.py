"""Read the chat templates and special tokens of a model, in a folder on disk or a repository on the Hub.

The precedence of files is that of transformers 5.23. `chat_template.jinja` and `additional_chat_templates/*.jinja`
replace those of tokenizer_config.json entirely; `chat_template` there is text, or a list of `{"name", "template"}`.
`chat_template.json` belongs to processors and is not read, as tokenizers do not read it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from ...errors import InputError
from ...whole_files import read_whole
from .special_tokens import NAMED, class_defaults, special_tokens, tokenizer_class

NO_TEMPLATE = "template.none"
"""The code of the error for a model without a template."""
TEMPLATE_FILE = "chat_template.jinja"
TEMPLATE_FOLDER = "additional_chat_templates"
TOKENIZER_CONFIG = "tokenizer_config.json"
LEGACY_TOKENS = "special_tokens_map.json"
MODEL_CONFIG = "config.json"
TOKENIZER = "tokenizer.json"


class ModelFiles(Struct, frozen=True):
    """The files of one model; `fetch` returns the path of a file on disk, downloading it first if necessary."""

    name: str
    files: frozenset[str]
    fetch: Callable[[str], Path]
    revision: str | None = None
    """The commit (40 hex digits) of a Hub repository."""

    def text(self, name: str) -> str | None:
        return read_text(self.fetch(name)) if name in self.files else None

    def json(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file, empty if there is no such file."""
        text = self.text(name)
        return {} if text is None else _object(text, f"{self.name}/{name}")


class ModelTemplates(Struct, frozen=True):
    """The chat template of a model, or its templates by name, and its special tokens."""

    templates: str | Mapping[str, str]
    special_tokens: Mapping[str, str]


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file with `\\r\\n` and `\\r` read as `\\n`, as transformers does; a BOM stays."""
    try:
        return io.TextIOWrapper(io.BytesIO(read_whole(path)), encoding="utf-8").read()
    except UnicodeDecodeError as error:
        raise InputError(f"`{path}` is not UTF-8: byte {error.start}", hint="save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error.strerror or error}") from error


def folder(path: Path) -> ModelFiles:
    """Return the model in a folder on disk."""
    names = [entry.name for entry in path.iterdir() if entry.is_file()]
    more = [f"{TEMPLATE_FOLDER}/{entry.name}" for entry in (path / TEMPLATE_FOLDER).glob("*.jinja")]
    return ModelFiles(str(path), frozenset(names + more), lambda name: path / name)


def find(model: ModelFiles) -> ModelTemplates:
    """Return the templates and special tokens of a model.

    Raises InputError if it has no template, or a file is damaged.
    """
    config = model.json(TOKENIZER_CONFIG)
    legacy = {} if "added_tokens_decoder" in config else model.json(LEGACY_TOKENS)
    templates = _templates(model, config, legacy)
    return ModelTemplates(templates, _special_tokens(model, config, legacy, templates))


def tokens(model: ModelFiles) -> dict[str, str]:
    """Return the special tokens of a model, which needs no template; raises InputError if it has no tokenizer."""
    if TOKENIZER_CONFIG not in model.files:
        raise InputError(
            f"`{model.name}` has no {TOKENIZER_CONFIG}, which says what its special tokens are",
            hint="name the folder or Hub id of a model, or the tokens themselves: --var eos_token=TOKEN",
        )
    config = model.json(TOKENIZER_CONFIG)
    legacy = {} if "added_tokens_decoder" in config else model.json(LEGACY_TOKENS)
    return _special_tokens(model, config, legacy, "")


def _templates(model: ModelFiles, config: Mapping[str, Any], legacy: Mapping[str, Any]) -> str | dict[str, str]:
    """Return the text, or the texts by name; never an empty dict."""
    own = _template_files(model)
    given = config.get("chat_template") if own == {} else own
    given = legacy.get("chat_template", given)  # unusual, but transformers gives it precedence
    if isinstance(given, list):
        given = {item.get("name"): item.get("template") for item in given if isinstance(item, dict)}
    if isinstance(given, str):
        return given
    if given and isinstance(given, dict) and all(isinstance(part, str) for item in given.items() for part in item):
        return given
    raise _no_template(model, given)


def _template_files(model: ModelFiles) -> str | dict[str, str]:
    """Return the templates in files of their own; a text if there is only a default, in either place."""
    names = {"default": TEMPLATE_FILE} if TEMPLATE_FILE in model.files else {}
    for file in sorted(model.files):
        above, _, name = file.rpartition("/")
        if above == TEMPLATE_FOLDER and name.endswith(".jinja"):
            names[name.removesuffix(".jinja")] = file
    texts = {name: model.text(file) or "" for name, file in names.items()}
    return texts["default"] if list(texts) == ["default"] else texts


def _no_template(model: ModelFiles, given: object) -> InputError:
    if given:
        return InputError(f"`chat_template` in {model.name}/{TOKENIZER_CONFIG} is neither text nor a list of templates")
    if "chat_template.json" in model.files:
        return InputError(
            f"`{model.name}` has only a chat_template.json, which processors read and tokenizers do not",
            hint="save its `chat_template` as a .jinja file and name that file",
        )
    return InputError(
        f"`{model.name}` has no chat template",
        hint="a base model has none: name the instruct model, a .jinja file, or one of `chatfmt templates list`",
        code=NO_TEMPLATE,
    )


def _special_tokens(
    model: ModelFiles, config: Mapping[str, Any], legacy: Mapping[str, Any], templates: str | Mapping[str, str]
) -> dict[str, str]:
    given = config.keys() | legacy.keys()

    def byte_level() -> bool:
        asked = any(name not in given for name in NAMED[:3])  # else the class's defaults decide nothing
        return asked and '"ByteLevel"' in (model.text(TOKENIZER) or "")

    kind = tokenizer_class(model.name, model.json(MODEL_CONFIG), config, byte_level)
    defaults = class_defaults(kind)
    tokens = special_tokens(config, legacy, defaults)
    texts = [templates] if isinstance(templates, str) else templates.values()
    if "pad_token" not in given | defaults.keys() and any("pad_token" in text for text in texts):
        padding = model.json(TOKENIZER).get("padding") or {}
        tokens |= {"pad_token": padding["pad_token"]} if "pad_token" in padding else {}
    return tokens


def _object(text: str, shown: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{shown}` is not JSON: {error}", hint="download it again") from error
    if not isinstance(value, dict):
        raise InputError(f"`{shown}` does not hold a JSON object")
    return value
