"""Count tokens and make token ids and labels of rendered text, with the `tokenizers` library (`chatfmt[tokens]`).

Rendered text contains its special tokens, so none are added. Nothing is truncated or padded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from .errors import CheckError, InputError, Location, MissingExtra
from .schema import Turns

IGNORED = -100
"""The label of tokens that are not trained on."""
IDS = pa.list_(pa.int32())
_SYSTEM = ("system", "developer")


class Encoding(Protocol):
    """The encoding of one text, a `tokenizers.Encoding`."""

    @property
    def ids(self) -> list[int]: ...

    @property
    def offsets(self) -> list[tuple[int, int]]: ...

    def char_to_token(self, char_pos: int, sequence_index: int = 0) -> int | None: ...


class Tokenizer:
    """A tokenizer loaded from a `tokenizer.json`; see `load`."""

    def __init__(self, inner: Any, name: str) -> None:
        self._inner, self.name = inner, name

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode each text without adding special tokens."""
        return list(self._inner.encode_batch(list(texts), add_special_tokens=False))

    def count(self, texts: pa.Array) -> pa.Int32Array:
        """Count the tokens of each text; null for null."""
        values = texts.to_pylist()
        encodings = iter(self.encode([text for text in values if text is not None]))
        return pa.array([None if text is None else len(next(encodings).ids) for text in values], pa.int32())

    def columns(self, texts: pa.Array, spans: pa.Array, *, as_transformers: bool = False) -> dict[str, pa.Array]:
        """Return `input_ids`, `labels` and `assistant_masks` of each text; null for null.

        `spans` are [start, end) in code points of the text. A token is trained on if any of its text lies in a span.
        With `as_transformers` the masks equal `return_assistant_tokens_mask`, even if the last character of a span is
        in no token (the span then runs to the end of the row) or in several (only the first is trained on).
        """
        texts, marks = texts.to_pylist(), spans.to_pylist()
        encodings = iter(self.encode([text for text in texts if text is not None]))
        mask = mask_as_transformers if as_transformers else token_mask
        ids: list[list[int] | None] = []
        masks: list[list[int] | None] = []
        for text, row in zip(texts, marks, strict=True):
            encoding = None if text is None else next(encodings)
            ids.append(encoding.ids if encoding else None)
            masks.append(mask(encoding, row or []) if encoding else None)
        labels = [_labels(row, on) for row, on in zip(ids, masks, strict=True)]
        return {
            "input_ids": pa.array(ids, IDS),
            "labels": pa.array(labels, IDS),
            "assistant_masks": pa.array(masks, pa.list_(pa.int8())),
        }


def _labels(ids: Sequence[int] | None, mask: Sequence[int] | None) -> list[int] | None:
    if ids is None or mask is None:
        return None
    return [token if trained else IGNORED for token, trained in zip(ids, mask, strict=True)]


def load(reference: str, *, revision: str | None = None) -> Tokenizer:
    """Load the tokenizer of a `tokenizer.json` file, of a folder with one, or of a Hub model.

    Raises MissingExtra if `tokenizers` is not installed, InputError if the file cannot be found or read.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra.of("tokenizers", "tokens") from error
    file = _find(reference, revision)
    try:
        inner = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception for a bad file
        raise InputError(f"`{file}` is not a tokenizer: {error}", code="file.not_data") from error
    inner.no_truncation()
    inner.no_padding()
    return Tokenizer(inner, reference)


def content(reference: str, *, revision: str | None = None) -> str:
    """Return the SHA-256 (hex) of the `tokenizer.json` of a reference; raises InputError if there is none."""
    return hashlib.sha256(_find(reference, revision).read_bytes()).hexdigest()


def _find(reference: str, revision: str | None) -> Path:
    path = Path(reference)
    if path.is_dir():
        path = path / "tokenizer.json"
    if path.is_file():
        return path
    if path.suffix or reference.count("/") != 1 or reference.startswith((".", os.sep)):
        hint = "--tokenizer needs a tokenizer.json, a folder with one, or a Hub model id"
        raise InputError(f"no tokenizer at `{reference}`", hint=hint, code="file.missing")
    return _download(reference, revision)


def _download(model: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model, "tokenizer.json", revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"`{model}` has no readable tokenizer.json: {reason}", code="file.missing") from error


def token_mask(encoding: Encoding, spans: Iterable[Sequence[int]]) -> list[int]:
    """Return 1 for each token with text inside a span, else 0."""
    offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    mask = np.zeros(len(offsets), np.int8)
    for start, end in spans:
        if start < end:
            mask[(offsets[:, 0] < end) & (offsets[:, 1] > start) & (offsets[:, 0] < offsets[:, 1])] = 1
    found: list[int] = mask.tolist()
    return found


def mask_as_transformers(encoding: Encoding, spans: Iterable[Sequence[int]]) -> list[int]:
    """Return the mask that transformers 5.23 makes of the spans of generation blocks, including its faults.

    It stops at the first span that starts in no token, and a span that ends in no token runs to the end of the row.
    """
    mask = [0] * len(encoding.ids)
    for start, end in spans:
        first, last = encoding.char_to_token(start, 0), _last(encoding, end - 1)
        if first is None:
            break
        for token in range(first, last + 1 if last else len(mask)):
            mask[token] = 1
    return mask


def _last(encoding: Encoding, character: int) -> int | None:
    return encoding.char_to_token(character, 0) if character >= 0 else None


def over_length(counts: pa.Array, limit: int) -> list[CheckError]:
    """Return an error for each row with more than `limit` tokens; null counts are skipped."""
    hint = "`--over-length drop` drops such rows, `--over-length split-turns` splits them"
    return [
        CheckError(f"{count} tokens, over the limit of {limit}", hint=hint, at=Location(row=row), code="token.length")
        for row, count in enumerate(counts.to_pylist())
        if count is not None and count > limit
    ]


def split_turns(messages: Turns, fits: Callable[[Turns], bool]) -> list[list[Mapping[str, Any]]] | None:
    """Split a conversation before user turns into the fewest that fit; None if an exchange alone is too long.

    Each starts with the system and developer turns of the whole, and no exchange is split: the user turns, the answer,
    and the tool calls and results between.
    """
    head = list(_head(messages))
    pieces: list[list[Mapping[str, Any]]] = []
    current: list[Mapping[str, Any]] = []
    for exchange in _exchanges(messages[len(head) :]):
        if current and fits([*head, *current, *exchange]):
            current = [*current, *exchange]
            continue
        pieces += [[*head, *current]] if current else []
        if not fits([*head, *exchange]):
            return None
        current = exchange
    return [*pieces, [*head, *current]] if current or head else []


def _head(messages: Turns) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        if message.get("role") not in _SYSTEM:
            return
        yield message


def _exchanges(messages: Turns) -> list[list[Mapping[str, Any]]]:
    """Group turns, each group but the first starting with a user turn."""
    groups: list[list[Mapping[str, Any]]] = []
    before = None
    for message in messages:
        if not groups or (message.get("role") == "user" and before != "user"):
            groups.append([])
        groups[-1].append(message)
        before = message.get("role")
    return groups
