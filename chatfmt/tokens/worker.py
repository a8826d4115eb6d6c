"""The tokenizer process: loads a `tokenizer.json` and encodes texts, within limits; see `process`.

An untrusted file can make the library take all memory, or crash; that ends this process alone. It reads and writes
frames of MessagePack over stdin and stdout (see `child_process`). A request is `[name of a method of Encoder,
*arguments]`, first `load`; its answer is `{"value"}` or `{"error"}`. Imports no Arrow, to start fast.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from ..child_process import die_with_parent, read_frame, to_frame, write_to_stdout

MEMORY, MEMORY_PER_BYTE = 512 << 20, 256
"""Bytes of memory for a request, and more for each of its bytes: five times what encodings of real tokenizers take."""
SECONDS, SECONDS_PER_MEGABYTE = 10, 30
"""CPU time for a request, and more for each of its megabytes."""

Encoded = tuple[bytes, bytes]
"""The ids of all tokens of several texts, and the number of tokens of each: int32."""


class Encoding(Protocol):
    """The encoding of one text, a `tokenizers.Encoding`."""

    @property
    def ids(self) -> list[int]: ...

    @property
    def offsets(self) -> list[tuple[int, int]]: ...

    def char_to_token(self, char_pos: int, sequence_index: int = 0) -> int | None: ...

    def __len__(self) -> int: ...


class Encoder:
    """The tokenizer, and the requests that it answers."""

    def load(self, file: bytes) -> bool:
        """Load the content of a `tokenizer.json`; return whether it trims blanks from the offsets of tokens."""
        import tokenizers

        self._inner = tokenizers.Tokenizer.from_buffer(file)
        self._inner.no_truncation()
        self._inner.no_padding()
        if getattr(self._inner.model, "dropout", None):
            raise ValueError("its `dropout` makes other tokens in every run; set it to null")
        self._post_processor = self._inner.post_processor
        return self._post_processor is not None and b'"trim_offsets":true' in self._post_processor.__getstate__()

    def vocabulary(self) -> tuple[Any, dict[str, int], dict[int, str]]:
        """Return the settings of the decoder, and the ids of tokens without and with the added ones."""
        decoder = self._inner.decoder and json.loads(self._inner.decoder.__getstate__())
        added = {id: token.content for id, token in self._inner.get_added_tokens_decoder().items()}
        return decoder, self._inner.get_vocab(with_added_tokens=False), added

    def ids(self, texts: list[str]) -> Encoded:
        """Return the tokens of texts; no special tokens are added."""
        return _encoded(self._inner.encode_batch_fast(texts, add_special_tokens=False))

    def masked(self, texts: list[str], spans: list[list[Sequence[int]]], as_transformers: bool) -> tuple[bytes, ...]:
        """Return the tokens of texts, and for each token whether it is trained on: int8."""
        # It adds no tokens here, but would trim blanks from the offsets.
        self._inner.post_processor = self._post_processor if as_transformers else None
        encodings = self._inner.encode_batch(texts, add_special_tokens=False)
        find = mask_as_transformers if as_transformers else token_mask
        masks = [np.array(find(encoding, found), np.int8) for encoding, found in zip(encodings, spans, strict=True)]
        return (*_encoded(encodings), np.concatenate(masks).tobytes())

    def are_tokens(self, texts: list[str]) -> list[bool]:
        """Return which texts are one token."""
        encodings = self._inner.encode_batch(texts, add_special_tokens=False)
        return [e.ids == [self._inner.token_to_id(text)] for e, text in zip(encodings, texts, strict=True)]


def _encoded(encodings: Sequence[Encoding]) -> Encoded:
    ids = np.concatenate([np.array(encoding.ids, np.int32) for encoding in encodings])
    return ids.tobytes(), np.array([len(encoding) for encoding in encodings], np.int32).tobytes()


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


def main() -> None:
    """Answer requests until stdin ends."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the parent
    encoder = Encoder()
    while (body := read_frame(partial(os.read, 0))) is not None:
        _limit(len(body))
        name, *arguments = msgspec.msgpack.decode(body)
        try:
            answer = {"value": getattr(encoder, name)(*arguments)}
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the library is not an Exception
            answer = {"error": str(error)}
        write_to_stdout(to_frame(msgspec.msgpack.encode(answer)))


def _limit(size: int) -> None:
    """Limit memory and CPU time for a request of so many bytes, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        seconds = int(used) + SECONDS + SECONDS_PER_MEGABYTE * (size >> 20)
        data = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        limits = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_DATA: data + MEMORY + MEMORY_PER_BYTE * size}
        for kind, soft in limits.items():
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
