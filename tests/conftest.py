"""Shared by all tests: the shared datasets, the templates in TRL's wheel, and chatfmt run as a command."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings

from chatfmt.cli import main, terminal
from chatfmt.executors import fork_server, worker_handle
from chatfmt.executors.fork_server import ForkServer
from chatfmt.render.sandbox import interpreters

from .hostile.child import streams
from .warm import OF_THE_HUB, PATIENCE, PIPE, Warm

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
EVERYDAY = ROOT / "tests" / "data" / "everyday.jsonl"
_shared = Path(os.environ.get("CHATFMT_SHARED", ROOT.parent / "shared"))
SHARED = _shared if (_shared / "data").is_dir() else None
needs_shared = pytest.mark.skipif(
    SHARED is None, reason="the shared datasets are not beside this checkout (CHATFMT_SHARED)"
)
TRL_VERSION = "1.16.0"
OWN_VARIABLES = {"CHATFMT_SHARED", "CHATFMT_TRL_TEMPLATES", "CHATFMT_TEMPLATES", "CHATFMT_UPDATE_GOLDENS"}
WARM, WARM_HUB = Warm(), Warm(*OF_THE_HUB)
START_WORKER = worker_handle.start
MEMORY_DISK = Path("/dev/shm")
READ_BY_COMMANDS = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM", "CHATFMT_")
"""Variables that a command reads whenever it runs; libraries read others once, when they are imported."""
FULL = False
"""Whether `--full` is given."""

DISPLAY = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM", "TTY_COMPATIBLE"}
"""What decides how wide and how colourful a command prints."""

for name in [name for name in os.environ if name.startswith(("HF_", "CHATFMT_")) and name not in OWN_VARIABLES]:
    del os.environ[name]  # what the caller has set for a hub must not decide what a test sees
for name in DISPLAY:
    os.environ.pop(name, None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--templates", metavar="DIR", help="also compare every .jinja file under DIR with transformers")
    parser.addoption(
        "--full",
        action="store_true",
        help="more random examples, every conversation with every template, all hostile inputs (in workers), the wheel",
    )


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # until all tests are collected, which takes a third less time
    if MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > 4 << 30:
        os.environ.setdefault(
            "PYTEST_DEBUG_TEMPROOT", str(MEMORY_DISK)
        )  # each output is synced to the disk eight times
    if folder := config.getoption("--templates"):
        os.environ["CHATFMT_TEMPLATES"] = str(Path(folder).resolve())
    global FULL
    FULL = config.getoption("--full")
    examples = 100 if FULL else 10
    quiet = [HealthCheck.too_slow]
    settings.register_profile("chatfmt", max_examples=examples, deadline=None, suppress_health_check=quiet)
    settings.load_profile("chatfmt")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def warm_workers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fork the workers that a test would start as fresh interpreters, except with `--full`."""

    def start_warm(server: ForkServer | None) -> worker_handle.Process:
        return worker_handle.Forked(WARM) if server is None and WARM.can_run() else START_WORKER(server)

    with pytest.MonkeyPatch.context() as patch:
        if not FULL:
            patch.setattr(worker_handle, "start", start_warm)
        yield


@pytest.fixture
def fresh_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start an interpreter for each sandbox process, as on other systems than Linux."""
    monkeypatch.setattr(interpreters, "server", lambda: None)


@pytest.fixture
def share(request: pytest.FixtureRequest) -> slice:
    """Return the share of a set that a test takes: all with `--full`, else one in five.

    Each test takes other ones, so that every conversation meets a fifth of the templates.
    """
    return slice(None) if request.config.getoption("--full") else slice(crc32(request.node.name.encode()) % 5, None, 5)


def sampled(every: Sequence[T], step: int) -> Sequence[T]:
    """Return all of a list, such as of templates, with `--full`, else one in `step`."""
    return every if FULL else every[::step]


def said(run: subprocess.CompletedProcess[bytes]) -> list[str]:
    """The lines that a command wrote to stderr."""
    return run.stderr.decode().splitlines()


def succeed(run: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[bytes]:
    """What a command did, which has to have succeeded."""
    assert run.returncode == 0, run.stderr.decode()
    return run


def run_cli(
    *arguments: str | Path, stdin: str | bytes | None = None, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `chatfmt …` as a user would and return what it did (stdout and stderr as bytes).

    Nine in ten tests, chosen by their names, run it in their own process, for a third of the time: see `run_here`.
    """
    given, more = stdin.encode() if isinstance(stdin, str) else stdin or b"", env or {}
    sampled = FULL or crc32(os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0].encode()) % 10 == 0
    can_run_here = len(given) <= PIPE and all(name.startswith(READ_BY_COMMANDS) for name in more)
    run = run_process if sampled or not can_run_here else run_here
    return run(*arguments, stdin=given, env=more, cwd=cwd)


def run_process(
    *arguments: str | Path,
    stdin: str | bytes | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    module: str = "chatfmt.__main__",
    stdout: str = "",
) -> subprocess.CompletedProcess[bytes]:
    """Run `chatfmt …` in a process of its own, for tests of processes, signals, crashes and what is read at import.

    `stdout` may go to a device, or be `closed`.
    """
    given = stdin.encode() if isinstance(stdin, str) else stdin or b""
    argv, more = list(map(str, arguments)), env or {}
    warm = WARM_HUB if any(name.startswith("HF_") for name in more) else WARM
    if warm.can_run(more):
        environment = {**os.environ, **more}
        return warm.run(argv, module=module, stdin=given, env=environment, cwd=cwd or Path.cwd(), stdout=stdout)
    assert not stdout, "only a warm process can have another stdout"
    return run_fresh(*argv, stdin=given, env=more, cwd=cwd, module=module)


def run_here(
    *arguments: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `chatfmt …` in this process, without workers; `stdin` has no more than PIPE bytes."""
    argv = list(map(str, arguments))
    if argv[:1] == ["convert"] and "--executor" not in argv and "--help" not in argv:
        argv += ["--executor", "serial"]
    source, into = os.pipe()
    os.write(into, stdin)
    os.close(into)
    request = {"stdin": f"/dev/fd/{source}", "stdout": "file"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fork_server, "can_fork", lambda: False)
        patch.setattr(gc, "freeze", lambda: None)  # what a command leaves behind is collected
        patch.setattr(terminal, "LOG_EVERY", PATIENCE)
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        with contextlib.chdir(cwd or Path.cwd()), streams(request, out.fileno(), err.fileno()):
            code = main(argv)
        os.close(source)
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(argv, code, out.read(), err.read())


def run_fresh(
    *arguments: str | Path,
    stdin: bytes | None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    module: str = "chatfmt",
) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m MODULE …` in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        input=stdin or b"",
        capture_output=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        timeout=PATIENCE,
    )


def files(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def to_lines(rows: Iterable[Any]) -> str:
    """The rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def from_lines(lines: str | bytes) -> list[Any]:
    """The rows of JSON Lines, in which only `\\n` ends a line."""
    text = lines.decode() if isinstance(lines, bytes) else lines
    return [json.loads(line) for line in text.split("\n") if line]


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    """Write rows to a file of JSON Lines."""
    path.write_text(to_lines(rows))
    return path


def read_rows(path: Path) -> list[Any]:
    """The rows of a file of JSON Lines."""
    return from_lines(path.read_bytes())


def _trl_templates() -> Path | None:
    """The folder of TRL's chat templates: CHATFMT_TRL_TEMPLATES, else fetched once as a wheel (not installed)."""
    if given := os.environ.get("CHATFMT_TRL_TEMPLATES"):
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "chatfmt-tests" / f"trl-{TRL_VERSION}"
    folder = cache / "trl" / "chat_templates"
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", f"trl=={TRL_VERSION}", "-d", str(cache)]
        if subprocess.run(command, capture_output=True).returncode:
            return None
        for wheel in cache.glob("trl-*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(cache)
    return folder if folder.is_dir() else None


TRL_TEMPLATES = _trl_templates()
needs_trl = pytest.mark.skipif(
    TRL_TEMPLATES is None, reason="TRL's wheel is neither cached nor downloadable (CHATFMT_TRL_TEMPLATES)"
)
