"""Token counts, token ids and training labels of rendered text, with the `tokenizers` library (`chatfmt[tokens]`).

Rendered text has its special tokens in it already, so none are added. Nothing is truncated and nothing is padded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import pyarrow as pa

from .errors import CheckError, InputError, Location, MissingExtra

Policy = Literal["drop", "split-turns", "error"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
"""What becomes of a row with too many tokens."""
IGNORED = -100
"""The label of a token that is not trained on."""
IDS = pa.list_(pa.int32())
Turns = Sequence[Mapping[str, Any]]
_LEADING = ("system", "developer")


class Encoding(Protocol):
    """What the `tokenizers` library gives for one text."""

    @property
    def ids(self) -> list[int]: ...

    @property
    def offsets(self) -> list[tuple[int, int]]: ...

    def char_to_token(self, char_pos: int, sequence_index: int = 0) -> int | None: ...


class Tokenizer:
    """A tokenizer that was loaded from a `tokenizer.json`; `load` makes one."""

    def __init__(self, inner: Any, name: str) -> None:
        self._inner, self.name = inner, name

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """The encoding of each text, without special tokens added."""
        return list(self._inner.encode_batch(list(texts), add_special_tokens=False))

    def count(self, texts: pa.Array) -> pa.Int32Array:
        """The number of tokens of each text; null for null."""
        values = texts.to_pylist()
        encodings = iter(self.encode([text for text in values if text is not None]))
        return pa.array([None if text is None else len(next(encodings).ids) for text in values], pa.int32())

    def columns(self, texts: pa.Array, spans: pa.Array, *, as_transformers: bool = False) -> dict[str, pa.Array]:
        """`input_ids`, `labels` and `assistant_masks` of each text; null for null.

        `spans` are [start, end) in code points of the text. A token is trained on if any of its text lies in a span.
        With `as_transformers` the masks equal `return_assistant_tokens_mask`, also where a span ends on a character
        that is no token (it then runs to the end of the row) or that is more than one (only the first is trained).
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
    """The tokenizer of a `tokenizer.json` file, of a folder that has one, or of a Hub model.

    Raises MissingExtra where `tokenizers` is not installed, InputError for what cannot be found or read.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra.of("tokenizers", "tokens") from error
    file = _find(reference, revision)
    try:
        inner = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception for every fault of a file
        raise InputError(f"`{file}` is no tokenizer: {error}", code="file.not_data") from error
    inner.no_truncation()
    inner.no_padding()
    return Tokenizer(inner, reference)


def content(reference: str, *, revision: str | None = None) -> str:
    """The sha256 (hex) of the `tokenizer.json` that the reference names; raises InputError where there is none."""
    return hashlib.sha256(_find(reference, revision).read_bytes()).hexdigest()


def _find(reference: str, revision: str | None) -> Path:
    path = Path(reference)
    if path.is_dir():
        path = path / "tokenizer.json"
    if path.is_file():
        return path
    if path.suffix or reference.count("/") != 1 or reference.startswith((".", os.sep)):
        hint = "--tokenizer takes a tokenizer.json, a folder with one, or a Hub model id"
        raise InputError(f"there is no tokenizer at `{reference}`", hint=hint, code="file.missing")
    return _download(reference, revision)


def _download(model: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model, "tokenizer.json", revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"`{model}` has no tokenizer.json to read: {reason}", code="file.missing") from error


def token_mask(encoding: Encoding, spans: Iterable[Sequence[int]]) -> list[int]:
    """1 for each token that has text inside a span, else 0."""
    offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    mask = np.zeros(len(offsets), np.int8)
    for start, end in spans:
        if start < end:
            mask[(offsets[:, 0] < end) & (offsets[:, 1] > start) & (offsets[:, 0] < offsets[:, 1])] = 1
    found: list[int] = mask.tolist()
    return found


def mask_as_transformers(encoding: Encoding, spans: Iterable[Sequence[int]]) -> list[int]:
    """The mask that transformers 5.23 makes of the spans of generation blocks, faults included.

    It stops at the first span whose start is no token, and a span whose end is no token runs to the end of the row.
    """
    mask = [0] * len(encoding.ids)
    for start, end in spans:
        first, last = encoding.char_to_token(start, 0), _last(encoding, end - 1)
        if first is None:
            break
        for place in range(first, last + 1 if last else len(mask)):
            mask[place] = 1
    return mask


def _last(encoding: Encoding, character: int) -> int | None:
    return encoding.char_to_token(character, 0) if character >= 0 else None


def over_length(counts: pa.Array, limit: int) -> list[CheckError]:
    """An error for each row of more than `limit` tokens, with its row; null counts are passed over."""
    hint = "`--over-length drop` leaves such rows out, `--over-length split-turns` makes several rows of them"
    return [
        CheckError(f"{count} tokens are more than {limit}", hint=hint, at=Location(row=row), code="token.length")
        for row, count in enumerate(counts.to_pylist())
        if count is not None and count > limit
    ]


def split_turns(messages: Turns, fits: Callable[[Turns], bool]) -> list[list[Mapping[str, Any]]] | None:
    """The conversation as the fewest conversations that fit, cut before user turns; None where an exchange is too long.

    Each begins with the system and developer messages of the whole, and has all of an exchange: the user's turns, the
    answer, and the tool calls and results between.
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
        if message.get("role") not in _LEADING:
            return
        yield message


def _exchanges(messages: Turns) -> list[list[Mapping[str, Any]]]:
    """The turns in groups that each begin with a user's turn (the first with whatever is first)."""
    groups: list[list[Mapping[str, Any]]] = []
    before = None
    for message in messages:
        if not groups or (message.get("role") == "user" and before != "user"):
            groups.append([])
        groups[-1].append(message)
        before = message.get("role")
    return groups
