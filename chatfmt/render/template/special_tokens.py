"""Find the special tokens that a tokenizer passes to its chat template, without loading the tokenizer.

The rules are those of transformers 5.23 (`AutoTokenizer.from_pretrained`, `PreTrainedTokenizerBase._from_pretrained`
and `special_tokens_map`). A token comes from `tokenizer_config.json` (text, or an object with `"__type":
"AddedToken"`), from `special_tokens_map.json` where the config has no `added_tokens_decoder` (it then wins), else from
the defaults of the tokenizer's class. An explicit null is no token, the empty text is one. The class is the config's,
unless the model type in `config.json` says otherwise; `default_tokens.json` beside this file holds those facts.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

from ...errors import InputError

NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The tokens that any tokenizer may have, in the order of transformers."""

Json = Mapping[str, Any]


@lru_cache(maxsize=1)
def facts() -> dict[str, Any]:
    """Return the default tokens of tokenizer classes (null for none) and the classes of model types."""
    text = (files(__package__) / "default_tokens.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def special_tokens(config: Json, legacy: Json, defaults: Json) -> dict[str, str]:
    """Return the special tokens by name, without those that are absent or null.

    `config` is tokenizer_config.json, `legacy` is special_tokens_map.json (empty if it is not read), `defaults` are
    those of the tokenizer class. Raises InputError for a token that is neither text nor an `AddedToken`.
    """
    merged = {**config, **{key: _legacy_token(key, value) for key, value in legacy.items()}}
    given = {**defaults, **merged}
    tokens = {name: _token(name, given[name]) for name in NAMED if given.get(name) is not None}
    for name, value in given.items():
        if _is_own(name) and (isinstance(value, str) or _is_added(value)):
            tokens[name] = _token(name, value)
    return tokens | {name: _token(name, value) for name, value in _extra_tokens(config, legacy).items()}


def _extra_tokens(config: Json, legacy: Json) -> dict[str, Any]:
    """Return the extra tokens that the config names; they override those of special_tokens_map.json.

    `extra_special_tokens` is read if it is an object; as a list it holds tokens without names.
    """
    own = {name: value for name, value in config.items() if _is_own(name) and isinstance(value, str)}
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens")
    explicit = own | (extra if isinstance(extra, dict) else {})
    if not explicit:
        explicit = dict(config.get("model_specific_special_tokens") or {})
    more = legacy.get("extra_special_tokens")
    return explicit | more if isinstance(more, dict) else explicit


def _is_own(name: str) -> bool:
    return name.endswith("_token") and name not in NAMED


def _legacy_token(name: str, value: Any) -> Any:
    """Return a value of special_tokens_map.json, where any object is a token, in the form of tokenizer_config.json."""
    return {**value, "__type": "AddedToken"} if isinstance(value, dict) and name != "extra_special_tokens" else value


def _is_added(value: Any) -> bool:
    return isinstance(value, dict) and value.get("__type") == "AddedToken"


def _token(name: str, value: Any) -> str:
    text = value.get("content") if _is_added(value) else value
    if isinstance(text, str):
        return text
    raise InputError(
        f"the special token `{name}` is neither text nor an `AddedToken`",
        hint=f'write it as text in tokenizer_config.json: "{name}": "…"',
    )


def class_defaults(name: str | None) -> dict[str, str | None]:
    """Return the default tokens of a tokenizer class, by either of its names; empty for None or an unknown class."""
    known = facts()
    for candidate in (name or "", f"{name}Fast"):
        if candidate in known["classes"] or candidate in known["aliases"]:
            return dict(known["classes"][known["aliases"].get(candidate, candidate)])
    return {}


def tokenizer_class(name: str, model: Json, config: Json, byte_level: Callable[[], bool]) -> str | None:
    """Return the class that AutoTokenizer selects; None for the generic backend, which has no default tokens.

    `name` is the model's id, `model` its config.json, `config` its tokenizer_config.json; `byte_level`
    returns whether tokenizer.json mentions `ByteLevel`, and is called only if that decides.
    """
    known, model_type = facts(), model.get("model_type") or ""
    registered = known["model_types"].get(model_type)
    declared = config.get("tokenizer_class") or model.get("tokenizer_class")
    distrusted = bool({model_type, model.get("model_name")} & set(known["distrusted"]))
    if declared is None:
        return str(registered) if registered else None
    declared = str(declared).removesuffix("Fast")
    if _has_own_code(config):
        return declared
    if any(fnmatch.fnmatch(name.lower(), pattern) for pattern in known["backend_ids"]):
        return None
    if declared == "LlamaTokenizer" and not distrusted and byte_level():
        return None
    if model_type not in known["model_types"] or registered == declared:
        return declared
    return (registered if distrusted else declared) if registered else None


def _has_own_code(config: Json) -> bool:
    """Return whether the repository has its own tokenizer class, which transformers runs only if trusted."""
    own = config.get("auto_map")
    return bool(own.get("AutoTokenizer") if isinstance(own, dict) else own)
