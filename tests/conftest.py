"""Shared by all tests: the shared datasets, the templates in TRL's wheel, and chatfmt run as a command."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings

from chatfmt.cli import main
from chatfmt.executors import worker_handle
from chatfmt.executors.fork_server import ForkServer

from .hostile.child import streams
from .warm import PATIENCE, Warm

ROOT = Path(__file__).parent.parent
_shared = Path(os.environ.get("CHATFMT_SHARED", ROOT.parent / "shared"))
SHARED = _shared if (_shared / "data").is_dir() else None
needs_shared = pytest.mark.skipif(
    SHARED is None, reason="the shared datasets are not beside this checkout (CHATFMT_SHARED)"
)
TRL_VERSION = "1.16.0"
OWN_VARIABLES = {"CHATFMT_SHARED", "CHATFMT_TRL_TEMPLATES", "CHATFMT_TEMPLATES", "CHATFMT_UPDATE_GOLDENS"}
WARM = Warm()
START_WORKER = worker_handle.start
MEMORY_DISK = Path("/dev/shm")

for name in [name for name in os.environ if name.startswith(("HF_", "CHATFMT_")) and name not in OWN_VARIABLES]:
    del os.environ[name]  # what the caller has set for a hub must not decide what a test sees


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--templates", metavar="DIR", help="also compare every .jinja file under DIR with transformers")
    parser.addoption(
        "--full",
        action="store_true",
        help="more random examples, every conversation with every template, all hostile inputs (in workers), the wheel",
    )


def pytest_configure(config: pytest.Config) -> None:
    if MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > 4 << 30:
        os.environ.setdefault(
            "PYTEST_DEBUG_TEMPROOT", str(MEMORY_DISK)
        )  # each output is synced to the disk eight times
    if folder := config.getoption("--templates"):
        os.environ["CHATFMT_TEMPLATES"] = str(Path(folder).resolve())
    examples = 200 if config.getoption("--full") else 15
    quiet = [HealthCheck.too_slow]
    settings.register_profile("chatfmt", max_examples=examples, deadline=None, suppress_health_check=quiet)
    settings.load_profile("chatfmt")


@pytest.fixture(scope="session", autouse=True)
def warm_workers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fork the workers that a test would start as fresh interpreters, except with `--full`; see `warm`."""

    def start_warm(server: ForkServer | None) -> worker_handle.Process:
        return worker_handle.Forked(WARM) if server is None and WARM.can_run() else START_WORKER(server)

    with pytest.MonkeyPatch.context() as patch:
        if not request.config.getoption("--full"):
            patch.setattr(worker_handle, "start", start_warm)
        yield


@pytest.fixture
def share(request: pytest.FixtureRequest) -> slice:
    """Return the share of a set that a test takes: all with `--full`, else one in five.

    Each test takes other ones, so that every conversation meets a fifth of the templates.
    """
    return slice(None) if request.config.getoption("--full") else slice(crc32(request.node.name.encode()) % 5, None, 5)


def run_cli(
    *arguments: str | Path, stdin: str | bytes | None = None, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `chatfmt …` as a user would and return what it did (stdout and stderr as bytes)."""
    given = stdin.encode() if isinstance(stdin, str) else stdin or b""
    argv, more = list(map(str, arguments)), env or {}
    if WARM.can_run(more):
        return WARM.run(argv, stdin=given, env={**os.environ, **more}, cwd=cwd or Path.cwd())
    return run_fresh(*argv, stdin=given, env=more, cwd=cwd)


def run_here(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run `chatfmt …` in this process, a third of the time of `run_cli`: for tests of rows, not of processes."""
    argv = [*map(str, arguments), *(("--executor", "serial") if arguments[0] == "convert" else ())]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with (
            contextlib.chdir(cwd or Path.cwd()),
            streams({"stdin": None, "stdout": "file"}, out.fileno(), err.fileno()),
        ):
            code = main(argv)
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(argv, code, out.read(), err.read())


def run_fresh(
    *arguments: str | Path, stdin: bytes | None, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m chatfmt …` in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-m", "chatfmt", *map(str, arguments)],
        input=stdin or b"",
        capture_output=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        timeout=PATIENCE,
    )


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
