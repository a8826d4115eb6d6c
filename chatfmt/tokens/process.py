"""The side of the run of a tokenizer process: start it, ask it, and start another one where it has died."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from ..child_process import python_command, read_frame, to_frame
from ..errors import InputError, Location
from ..whole_files import read_whole

_CHILD = "from chatfmt.tokens.worker import main; main()"


class TokenizerError(Exception):
    """The library refuses the file or a text; or this has ended the process."""


class TokenizerProcess:
    """The process for one `tokenizer.json`; raises InputError if it cannot be loaded, or is not the planned one."""

    def __init__(self, file: Path, sha256: str) -> None:
        self.file, self._sha256 = file, sha256
        self._owner, self._lock = os.getpid(), threading.Lock()
        self.trims = self._start()

    def _start(self) -> bool:
        """Start the process and load the file; return what `Encoder.load` returns."""
        content = read_whole(self.file)
        if hashlib.sha256(content).hexdigest() != self._sha256:
            raise InputError(
                "another tokenizer than the one that was planned", code="file.changed", at=Location(str(self.file)),
                hint="it has to be the same file during the whole run, and on every machine",
            )  # fmt: skip
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(python_command(_CHILD), **pipes)
        try:
            return bool(self._ask("load", content))
        except TokenizerError as error:
            self.close()
            text, hint = f"`{self.file}` is not a tokenizer: {error}", "name the tokenizer.json of a model"
            raise InputError(text, hint=hint, code="file.not_data") from error

    def ask(self, request: str, *arguments: Any) -> Any:
        """Return what `Encoder` returns for a request; raises TokenizerError."""
        with self._lock:
            try:
                if self._process.poll() is not None:
                    self._start()
                return self._ask(request, *arguments)
            except TokenizerError:
                if self._process.returncode != -signal.SIGKILL:
                    raise
            self._start()  # killed from outside: its own limits send other signals
            return self._ask(request, *arguments)

    def _ask(self, request: str, *arguments: Any) -> Any:
        stdin, stdout = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        answer = None
        try:
            stdin.write(to_frame(msgspec.msgpack.encode([request, *arguments])))
            stdin.flush()
            body = read_frame(stdout.read)
            answer = msgspec.msgpack.decode(body, strict=False) if body else None
        except (OSError, msgspec.DecodeError):
            pass
        except BaseException:  # after an interrupt, its answer would be taken for the next one
            self.close()
            raise
        if answer is None:
            self._process.wait()
            raise TokenizerError("the library crashes, or takes too much time or memory")
        if "error" in answer:
            raise TokenizerError(answer["error"])
        return answer["value"]

    def close(self) -> None:
        """End the process; another request starts it again."""
        if self._owner == os.getpid():
            self._process.kill()
            with contextlib.suppress(OSError, ValueError):
                self._process.communicate()

    def __del__(self) -> None:
        if "_process" in vars(self):
            self.close()


@lru_cache(maxsize=2)
def _process(owner: int, file: Path, sha256: str) -> TokenizerProcess:
    return TokenizerProcess(file, sha256)


def tokenizer_process(file: Path, sha256: str) -> TokenizerProcess:
    """Return the process for a file of this content: of this process, and not of one that it was forked from."""
    return _process(os.getpid(), file, sha256)
