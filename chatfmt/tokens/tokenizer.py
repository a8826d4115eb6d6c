"""Count tokens and make token ids and labels of rendered text, with the `tokenizers` library (`chatfmt[tokens]`).

Rendered text contains its special tokens, so none are added. Nothing is truncated or padded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from numpy.typing import ArrayLike

from ..errors import NOWHERE, InputError, Location, MissingExtra
from ..hub_models import MODEL_ID, download
from ..turn_columns import IntArray, offsets_of, to_lists
from ..whole_files import check_whole
from .process import TokenizerError, TokenizerProcess, tokenizer_process
from .spans import Int32Array, MaskArray, Spans, TokenBytes

IGNORED = -100
"""The label of tokens that are not trained on."""
SCHEMA = pa.schema({
    "input_ids": pa.list_(pa.int32()), "attention_mask": pa.list_(pa.int8()),
    "labels": pa.list_(pa.int32()), "assistant_masks": pa.list_(pa.int8()),
})  # fmt: skip
"""The columns that `Tokenizer.columns` makes."""
PIECE = 1 << 20
"""Bytes of text to encode at a time."""


class Tokenizer:
    """A tokenizer loaded from a `tokenizer.json`, in a process of its own; see `load`.

    Its methods raise InputError with the row of a text that cannot be encoded: the tokenizer lacks its unknown token,
    its regex gives up, or it takes more memory or time than it may.
    """

    def __init__(self, process: TokenizerProcess, name: str) -> None:
        self._process, self.name = process, name
        self._vocabulary = cache(lambda: TokenBytes.of(*process.ask("vocabulary")))

    def count(self, texts: pa.Array) -> pa.Int32Array:
        """Count the tokens of each text; null for null."""
        counts = self._encode(texts, lambda piece, start: (self._ids(piece.to_pylist())[1],))
        return pa.array(_in_place(counts[0], texts), pa.int32(), mask=np.asarray(texts.is_null()))

    def _ids(self, texts: Sequence[str]) -> tuple[Int32Array, Int32Array]:
        found = self._process.ask("ids", texts) if texts else (b"", b"")
        ids, counts = (np.frombuffer(each, np.int32) for each in found)
        return ids, counts

    def _encode(self, texts: pa.Array, encode: Callable[[pa.Array, int], Sequence[Numbers]]) -> list[Numbers]:
        """Return the arrays that `encode` makes of the texts that are not null, joined.

        It gets some texts at a time and the number of texts before them. Where this fails, it gets fewer, down to the
        one that cannot be encoded.
        """
        waiting = [*_pieces(texts)][::-1]
        done, encoded = 0, [encode(pa.array([], texts.type), 0)]
        while waiting:
            piece = waiting.pop()
            try:
                encoded.append(encode(piece, done))
            except TokenizerError as error:
                if len(piece) > 1:
                    half = len(piece) // 2
                    waiting += [piece.slice(half), piece.slice(0, half)]
                    continue
                row = int(np.flatnonzero(np.asarray(texts.is_valid()))[done])
                raise self._error(error, Location(row=row)) from None
            done += len(piece)
        return [np.concatenate(arrays) for arrays in zip(*encoded, strict=True)]

    def _error(self, error: TokenizerError, at: Location = NOWHERE) -> InputError:
        message = f"the tokenizer `{self.name}` cannot encode a text: {error}"
        return InputError(message, hint="use the tokenizer of the model", at=at, code="file.not_data")

    def columns(self, texts: pa.Array, spans: pa.Array, *, as_transformers: bool = False) -> dict[str, pa.Array]:
        """Return `input_ids`, `attention_mask`, `labels` and `assistant_masks` of each text; null for null.

        `spans` are [start, end) in code points of the text. A token is trained on if any of its text lies in a span.
        With `as_transformers` the masks equal `return_assistant_tokens_mask`, even if the last character of a span is
        in no token (the span then runs to the end of the row) or in several (only the first is trained on).
        """
        spans = spans.filter(texts.is_valid())
        ids, mask, counts = self._encode(
            texts, lambda piece, start: self._encode_piece(piece, spans.slice(start, len(piece)), as_transformers)
        )
        flat = {
            "input_ids": ids,
            "attention_mask": np.ones(len(ids), np.int8),
            "labels": np.where(mask, ids, np.int32(IGNORED)),
            "assistant_masks": mask,
        }
        lengths = _in_place(counts, texts)
        return {name: to_lists(pa.array(values), lengths, texts.is_null()) for name, values in flat.items()}

    def _encode_piece(self, texts: pa.Array, spans: pa.Array, as_transformers: bool) -> _Tokens:
        """Encode texts, none of them null, and mask the tokens in their spans; raises TokenizerError."""
        if not len(texts):
            return _NO_TOKENS
        values = texts.to_pylist()
        vocabulary = None if as_transformers and self._process.trims else self._vocabulary()
        if vocabulary is None:
            return self._masked(values, spans.to_pylist(), as_transformers)
        ids, counts = self._ids(values)
        starts = offsets_of(counts.astype(np.int64))
        row_bytes = offsets_of(pc.binary_length(texts).to_numpy().astype(np.int64))
        places = vocabulary.places("".join(values).encode(), row_bytes, ids, starts)
        mask = (places.mask_as_transformers if as_transformers else places.mask)(Spans.of(spans))
        inexact = np.flatnonzero(~places.exact)
        if len(inexact):
            _, masks, _ = self._masked(
                [values[row] for row in inexact], spans.take(inexact).to_pylist(), as_transformers
            )
            mask[np.repeat(~places.exact, counts)] = masks
        return ids, mask, counts

    def _masked(self, texts: Sequence[str], spans: Sequence[Any], as_transformers: bool) -> _Tokens:
        found = self._process.ask("masked", texts, [each or [] for each in spans], as_transformers)
        ids, counts, mask = (np.frombuffer(*each) for each in zip(found, (np.int32, np.int32, np.int8), strict=True))
        return ids, mask, counts


Numbers = np.ndarray[Any, np.dtype[Any]]
_Tokens = tuple[Int32Array, MaskArray, Int32Array]
"""The ids and masks of all tokens of several texts, and the number of tokens of each."""
_NO_TOKENS: _Tokens = (np.empty(0, np.int32), np.empty(0, np.int8), np.empty(0, np.int32))


def _pieces(texts: pa.Array) -> Iterator[pa.Array]:
    """Yield the texts that are not null, some at a time: encoded, they take fifty times as much memory."""
    known = texts.drop_null()
    piece = np.cumsum(pc.binary_length(known).to_numpy()) // PIECE
    for rows in np.split(np.arange(len(known)), np.flatnonzero(np.diff(piece)) + 1):
        if len(rows):
            yield known.slice(rows[0], len(rows))


def _in_place(values: ArrayLike, texts: pa.Array) -> IntArray:
    """Return a value for each text: those of the texts that are not null, and 0 for the others."""
    placed = np.zeros(len(texts), np.int64)
    placed[np.asarray(texts.is_valid())] = values
    return placed


def load(reference: str, *, sha256: str | None = None) -> Tokenizer:
    """Load the tokenizer of a `tokenizer.json` file, of a folder with one, or of a Hub model.

    Raises MissingExtra if `tokenizers` is not installed, InputError if the file cannot be found or read, or if its
    `content` is not `sha256`.
    """
    if find_spec("tokenizers") is None:
        raise MissingExtra.of("tokenizers", "tokens")
    return Tokenizer(tokenizer_process(_find(reference), sha256 or content(reference)), reference)


class _AddedToken(Struct):
    content: str


class _TokenizerFile(Struct):
    added_tokens: list[_AddedToken] = []


def split_tokens(reference: str, tokens: Iterable[str]) -> list[str]:
    """Return which of these control tokens are not a token of the tokenizer; raises as `load` does.

    The tokenizer is loaded only for tokens that its file does not list as added ones.
    """
    try:
        added = msgspec.json.decode(_find(reference).read_bytes(), type=_TokenizerFile).added_tokens
    except (msgspec.DecodeError, RecursionError):
        added = []
    known = {token.content for token in added}
    others = [token for token in tokens if token not in known]
    if not others:
        return []
    tokenizer = load(reference)
    try:
        are_tokens = tokenizer._process.ask("are_tokens", others)
    except TokenizerError as error:
        raise tokenizer._error(error) from None
    return [token for token, is_one in zip(others, are_tokens, strict=True) if not is_one]


def content(reference: str) -> str:
    """Return the SHA-256 (hex) of the `tokenizer.json` of a reference; raises InputError if there is none."""
    return hashlib.sha256(_find(reference).read_bytes()).hexdigest()


def _find(reference: str) -> Path:
    path = Path(reference)
    if path.is_dir():
        path = path / "tokenizer.json"
    if path.exists() and not path.is_dir():
        check_whole(path)
        return path
    if MODEL_ID.fullmatch(reference) and not reference.startswith(".") and path.suffix != ".json":
        return download(reference, "tokenizer.json")
    hint = "--tokenizer needs a tokenizer.json, a folder with one, or the id of a Hub model, OWNER/NAME"
    raise InputError(f"no tokenizer at `{reference}`", hint=hint, code="file.missing")
