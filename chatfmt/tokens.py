"""Count tokens and make token ids and labels of rendered text, with the `tokenizers` library (`chatfmt[tokens]`).

Rendered text contains its special tokens, so none are added. Nothing is truncated or padded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from numpy.typing import ArrayLike

from .errors import CheckError, InputError, Location, MissingExtra
from .hub_models import MODEL_ID, download
from .schema import Turns
from .token_spans import Int32Array, MaskArray, Spans, TokenBytes
from .turn_columns import IntArray, offsets_of, to_lists
from .whole_files import check_whole

IGNORED = -100
"""The label of tokens that are not trained on."""
SCHEMA = pa.schema({
    "input_ids": pa.list_(pa.int32()), "attention_mask": pa.list_(pa.int8()),
    "labels": pa.list_(pa.int32()), "assistant_masks": pa.list_(pa.int8()),
})  # fmt: skip
"""The columns that `Tokenizer.columns` makes."""
PIECE = 1 << 20
"""Bytes of text to encode at a time."""
_SYSTEM = ("system", "developer")


class Encoding(Protocol):
    """The encoding of one text, a `tokenizers.Encoding`."""

    @property
    def ids(self) -> list[int]: ...

    @property
    def offsets(self) -> list[tuple[int, int]]: ...

    def char_to_token(self, char_pos: int, sequence_index: int = 0) -> int | None: ...

    def __len__(self) -> int: ...


class Tokenizer:
    """A tokenizer loaded from a `tokenizer.json`; see `load`."""

    def __init__(self, inner: Any, name: str) -> None:
        self._inner, self.name = inner, name
        self._vocabulary = cache(partial(TokenBytes.of, inner))

    def encode(self, texts: Sequence[str], *, offsets: bool = True) -> list[Encoding]:
        """Encode each text without adding special tokens; it is faster without `offsets`, which are zeros then.

        Raises InputError if a text cannot be encoded: the tokenizer lacks its unknown token, or its regex gives up.
        """
        encode = self._inner.encode_batch if offsets else self._inner.encode_batch_fast
        try:
            return list(encode(list(texts), add_special_tokens=False))
        except BaseException as error:  # the library raises plain Exception, and a panic is no Exception at all
            if type(error) is not Exception and type(error).__name__ != "PanicException":
                raise
            message = f"the tokenizer `{self.name}` cannot encode a text: {error}"
            raise InputError(message, hint="use the tokenizer of the model", code="file.not_data") from None

    def count(self, texts: pa.Array) -> pa.Int32Array:
        """Count the tokens of each text; null for null."""
        counts = [len(found) for piece in _pieces(texts) for found in self.encode(piece.to_pylist(), offsets=False)]
        return pa.array(_in_place(counts, texts), pa.int32(), mask=np.asarray(texts.is_null()))

    def columns(self, texts: pa.Array, spans: pa.Array, *, as_transformers: bool = False) -> dict[str, pa.Array]:
        """Return `input_ids`, `attention_mask`, `labels` and `assistant_masks` of each text; null for null.

        `spans` are [start, end) in code points of the text. A token is trained on if any of its text lies in a span.
        With `as_transformers` the masks equal `return_assistant_tokens_mask`, even if the last character of a span is
        in no token (the span then runs to the end of the row) or in several (only the first is trained on).
        """
        if not as_transformers:
            self._inner.post_processor = None  # it adds no tokens here, but would trim blanks from the offsets
        spans, done, encoded = spans.filter(texts.is_valid()), 0, [_NO_TOKENS]
        for piece in _pieces(texts):
            encoded.append(self._encode_piece(piece, spans.slice(done, len(piece)), as_transformers))
            done += len(piece)
        ids, mask, counts = (np.concatenate(arrays) for arrays in zip(*encoded, strict=True))
        flat = {
            "input_ids": ids,
            "attention_mask": np.ones(len(ids), np.int8),
            "labels": np.where(mask, ids, np.int32(IGNORED)),
            "assistant_masks": mask,
        }
        lengths = _in_place(counts, texts)
        return {name: to_lists(pa.array(values), lengths, texts.is_null()) for name, values in flat.items()}

    def _encode_piece(self, texts: pa.Array, spans: pa.Array, as_transformers: bool) -> _Tokens:
        """Encode texts, none of them null, and mask the tokens in their spans."""
        values, find = texts.to_pylist(), mask_as_transformers if as_transformers else token_mask
        vocabulary = None if as_transformers and _trims(self._inner.post_processor) else self._vocabulary()
        encodings = self.encode(values, offsets=vocabulary is None)
        ids = np.concatenate([np.array(encoding.ids, np.int32) for encoding in encodings])
        counts = np.array([len(encoding) for encoding in encodings], np.int64)
        starts = offsets_of(counts)
        if vocabulary is None:
            masks = [find(encoding, row.as_py() or []) for encoding, row in zip(encodings, spans, strict=True)]
            return ids, np.concatenate([np.array(mask, np.int8) for mask in masks]), counts
        row_bytes = offsets_of(pc.binary_length(texts).to_numpy().astype(np.int64))
        places = vocabulary.places("".join(values).encode(), row_bytes, ids, starts)
        mask = (places.mask_as_transformers if as_transformers else places.mask)(Spans.of(spans))
        inexact = np.flatnonzero(~places.exact)
        for row, encoding in zip(inexact, self.encode([values[row] for row in inexact]), strict=True):
            mask[starts[row] : starts[row + 1]] = find(encoding, spans[row].as_py() or [])
        return ids, mask, counts


_Tokens = tuple[Int32Array, MaskArray, IntArray]
"""The ids and masks of all tokens of several texts, and the number of tokens of each."""
_NO_TOKENS: _Tokens = (np.empty(0, np.int32), np.empty(0, np.int8), np.empty(0, np.int64))


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


def _trims(post_processor: Any) -> bool:
    return post_processor is not None and b'"trim_offsets":true' in post_processor.__getstate__()


def load(reference: str, *, sha256: str | None = None) -> Tokenizer:
    """Load the tokenizer of a `tokenizer.json` file, of a folder with one, or of a Hub model.

    Raises MissingExtra if `tokenizers` is not installed, InputError if the file cannot be found or read, or if its
    `content` is not `sha256`.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra.of("tokenizers", "tokens") from error
    file = _find(reference)
    if sha256 not in (None, content(str(file))):
        raise InputError(
            "another tokenizer than the one that was planned", code="file.changed", at=Location(str(file)),
            hint="it has to be the same file during the whole run, and on every machine",
        )  # fmt: skip
    try:
        inner = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception for a bad file
        raise InputError(f"`{file}` is not a tokenizer: {error}", code="file.not_data") from error
    inner.no_truncation()
    inner.no_padding()
    return Tokenizer(inner, reference)


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
    except msgspec.DecodeError:
        added = []
    known = {token.content for token in added}
    others = [token for token in tokens if token not in known]
    if not others:
        return []
    tokenizer = load(reference)
    encoded = zip(others, tokenizer.encode(others, offsets=False), strict=True)
    return [token for token, found in encoded if [*found.ids] != [tokenizer._inner.token_to_id(token)]]


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
