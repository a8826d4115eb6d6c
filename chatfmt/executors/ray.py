"""Tasks on a Ray cluster: the one of `RAY_ADDRESS`, the one that runs on this machine, or a local one for the run.

Before the first task every node is asked for chatfmt, its version and the files that tasks name in `paths`. As many
tasks are in flight as the cluster can run; a node that is lost has its tasks run once more elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import MissingExtra, OutputError
from .base import TASKS_AHEAD, OnPosition, R, T, cores, ignore_position, task_name
from .worker_died import WorkerDied, lost_twice

CONNECT_SECONDS, HEALTH_SECONDS, CLIENT_SECONDS = 10, 18, 6
"""Timeouts for reaching the address of a cluster, for its answer, and for each of three tries to connect to `ray://`.

Ray itself tries for minutes.
"""
PREFLIGHT_SECONDS = 60
"""Timeout for the answers of all nodes, of which a busy one may have none."""


def ray(
    fn: Callable[[T], R], tasks: Sequence[T], workers: int, on_position: OnPosition[T] = ignore_position
) -> Iterator[R]:
    """Yield the results of the tasks; at most `workers` run at once, or with 0 as many as the cluster has CPUs.

    Positions are not reported. Raises OutputError if there is no cluster at the address, or if a node lacks chatfmt or
    a file.
    """
    engine = connected(workers)
    if not tasks:
        return
    check_nodes(engine, tasks)
    from .messages import outcome

    remote = engine.remote(max_retries=1, num_cpus=1)(outcome)
    refs: dict[int, Any] = {}
    try:
        for index, task in enumerate(tasks):
            ahead = workers or TASKS_AHEAD * max(1, int(engine.cluster_resources().get("CPU", 1)))  # those it has now
            for number in range(index + len(refs), min(index + ahead, len(tasks))):
                refs[number] = remote.remote(fn, tasks[number])
            again = partial(run_here, engine, remote, fn, task)
            yield _result(engine, refs.pop(index), again, task_name(index, task))
    finally:
        for ref in refs.values():  # tasks whose results will not be read must not write any more
            with contextlib.suppress(Exception):
                engine.cancel(ref, force=True)


def connected(workers: int) -> Any:
    """Return the module of Ray, connected to a cluster; what it prints goes to stderr.

    Raises MissingExtra, OutputError.
    """
    os.environ.setdefault("RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S", str(CLIENT_SECONDS))
    try:
        with stdout_to_stderr():
            import ray as engine
    except ImportError:
        raise MissingExtra.of("ray", "ray") from None
    if not isinstance(sys.stdout, OfOneThread):
        sys.stdout = OfOneThread(sys.stdout)
    if engine.is_initialized():
        return engine
    address = os.environ.get("RAY_ADDRESS")
    if address:
        check_address(address)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    on_term = signal.getsignal(signal.SIGTERM) if threading.current_thread() is threading.main_thread() else None
    try:
        with stdout_to_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if address:
                engine.init(address=address, **quiet)
            else:
                try:
                    engine.init(address="auto", **quiet)
                except ConnectionError:  # no cluster runs on this machine, or one that lost its node
                    engine.init(address="local", num_cpus=workers or cores(), include_dashboard=False, **quiet)
    except Exception as error:
        raise unreachable(address or "this machine", str(error)) from None
    finally:
        if on_term is not None:  # Ray sets its own
            signal.signal(signal.SIGTERM, on_term)
    return engine


def check_address(address: str) -> None:
    """Raise OutputError unless something answers at the address, `HOST:PORT` or `ray://HOST:PORT`."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not port.isdigit():  # `auto`, `local`, or the address of a managed service
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        if "//" not in address:  # Ray itself would end this process after minutes
            command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
            busy = os.getloadavg()[0] / cores()  # where a healthy cluster answers late
            subprocess.run(command, check=True, capture_output=True, timeout=HEALTH_SECONDS * max(1, min(busy, 8)))
    except OSError as error:
        raise unreachable(address, error.strerror or str(error)) from None
    except subprocess.SubprocessError:
        raise unreachable(address, "what listens there is no Ray cluster, or not a healthy one") from None


def unreachable(address: str, why: str) -> OutputError:
    reason = next((line.strip() for line in why.splitlines() if line.strip()), "no answer")
    if reason.startswith("Version mismatch"):  # of Ray or Python; both versions are in the lines that follow
        return OutputError(
            f"the Ray cluster at `{address}` does not fit: {' '.join(why.split())}",
            hint="use the same Ray and Python here and there", code="worker.address",
        )  # fmt: skip
    return OutputError(
        f"no Ray cluster answers at `{address}`: {reason}",
        hint="check RAY_ADDRESS, or unset it to run on this machine", code="worker.address",
    )  # fmt: skip


def check_nodes(engine: Any, tasks: Sequence[Any]) -> None:
    """Raise OutputError for a node without this version of chatfmt, or that does not see a file of the tasks."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    paths = sorted({path for task in tasks for path in getattr(task, "paths", ())})
    nodes = {
        str(node["NodeID"]): f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in engine.nodes()
        if node["Alive"] and node["Resources"].get("CPU")
    }

    def look(paths: list[str]) -> tuple[str, list[str]]:  # nested, so that its code travels to nodes without chatfmt
        import importlib
        import os
        import sys

        try:
            version = importlib.import_module("chatfmt.executors.ray").code_version()
        except (ImportError, AttributeError):  # none, or one of another version
            version = getattr(sys.modules.get("chatfmt"), "__version__", "")
        return version, [path for path in paths if not os.path.exists(path)]  # noqa: PTH110

    remote, on = engine.remote(num_cpus=0, max_retries=0)(look), NodeAffinitySchedulingStrategy
    asked = {remote.options(scheduling_strategy=on(id, soft=False)).remote(paths): nodes[id] for id in nodes}
    with stdout_to_stderr():
        answered, _ = engine.wait(list(asked), num_returns=len(asked), timeout=PREFLIGHT_SECONDS)
        for ref in answered:
            with contextlib.suppress(engine.exceptions.RayError):  # a node that was lost meanwhile runs no task
                check_node(asked[ref], *engine.get(ref))


def check_node(node: str, version: str, missing: Sequence[str]) -> None:
    """Raise OutputError for a node with another version of chatfmt, or without some files."""
    if version != code_version():
        what = f"has chatfmt {version}, and this machine {code_version()}" if version else "has no chatfmt"
        hint = f'pip install "chatfmt[ray]=={__version__}" there'
        raise OutputError(f"node {node} {what}", hint=hint, code="worker.node")
    if missing:
        hint = "put it on a disk that all nodes share (XDG_CACHE_HOME for the cache), or on a store: s3://BUCKET/PREFIX"
        raise OutputError(f"node {node} cannot see `{missing[0]}`", hint=hint, code="worker.node")


@cache
def code_version() -> str:
    """Return the version of chatfmt and a hash of its files: two checkouts may have the same version."""
    folder, found = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".jinja")):
        found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return f"{__version__}+{found.hexdigest()[:8]}"


def run_here(engine: Any, remote: Any, *arguments: Any) -> Any:
    """Call a remote function on the node of this process, if it is part of the cluster, and return the reference."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = engine.get_runtime_context().get_node_id()
    return remote.options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=True)).remote(
        *arguments
    )


def _result(engine: Any, ref: Any, again: Callable[[], Any], name: str) -> Any:
    """Return the result of a task, which `again` runs once more if Ray has lost it after the task had ended.

    Large results stay on the node of the task until they are fetched. A process that was connected to another cluster
    before may fail to fetch them (OwnerDiedError, and the owner is this process), so that `again` must run here.
    """
    from .messages import value_of

    try:
        with stdout_to_stderr():
            try:
                message = engine.get(ref)
            except engine.exceptions.ObjectLostError:
                message = engine.get(again())
        return value_of(message)
    except engine.exceptions.RayError as error:
        raise lost_twice(WorkerDied(f"Ray lost it twice: {type(error).__name__}"), name) from error


class OfOneThread:
    """The stdout of the thread that makes it; what other threads print goes to stderr: Ray prints news of nodes."""

    def __init__(self, stdout: Any) -> None:
        self._stdout, self._thread = stdout, threading.current_thread()

    def write(self, text: str) -> int:
        return int((self._stdout if threading.current_thread() is self._thread else sys.stderr).write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what this process prints to stdout to stderr: rows and reports of chatfmt have stdout to themselves."""
    try:
        sys.stdout.flush()
        saved = os.dup(1)
    except (OSError, ValueError, AttributeError):  # stdout is closed
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)
