"""Tasks on a Ray cluster: the one of `RAY_ADDRESS`, the one that runs on this machine, or a local one for the run.

Before the first task every node is asked for chatfmt, its version and the files that tasks name in `paths`. As many
tasks are in flight as the cluster can run; a node that is lost has its tasks run once more elsewhere.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .. import __version__
from ..child_process import python_command
from ..errors import ChatfmtError, MissingExtra, OutputError
from .base import TASKS_AHEAD, OnPosition, R, T, cores, ignore_position, task_name
from .versions import Difference, difference
from .worker_died import WorkerDied, lost_twice

CONNECT_SECONDS, ANSWER_SECONDS = 5, 12
"""Timeouts for reaching the address of a cluster, and for its answer; Ray itself tries for minutes.

On a busy machine the answer may take five times as long as importing Ray.
"""
CLIENT = "ray://"
"""How the address of a server for clients begins.

Ray 2.60 fails to start the process for one client in twenty, and says so after 40 seconds: connecting is tried twice.
"""
CONNECT = """
import ray, sys
print(flush=True)
try:
    ray.init(sys.argv[1], log_to_driver=False, logging_level="CRITICAL")
except Exception as error:
    sys.exit(print(error) or 1)
"""
"""The program that tries to connect to an address."""
PREFLIGHT_SECONDS = 60
"""Timeout for the answers of all nodes, of which a busy one may have none."""
STOP_SECONDS = 20
"""Timeout for tasks to stop."""


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
                refs[number] = remote.remote(partial(on_node, fn), tasks[number])
            again = partial(run_here, engine, remote, partial(on_node, fn), task)
            result = _result(engine, refs[index], again, task_name(index, task))
            del refs[index]  # only now: an interrupt may come while it runs
            yield result
    finally:
        if refs:
            with contextlib.suppress(Exception), stdout_to_stderr():
                stop(engine, list(refs.values()))


def stop(engine: Any, refs: list[Any]) -> None:
    """Stop tasks whose results will not be read, and wait until none of them can write any more.

    A task asks for it: the process that has submitted a task then cancels it in the thread that also completes it.
    When it calls `cancel` itself, Ray 2.60 may abort it: a task that has just ended counts as one not yet submitted.
    """
    cancel = engine.remote(num_cpus=0)(lambda refs: [engine.cancel(ref, force=True) for ref in refs])
    stopping = cancel.remote(refs[::-1])  # those that have not begun first
    engine.wait([stopping, *refs], num_returns=1 + len(refs), timeout=STOP_SECONDS)


def connected(workers: int) -> Any:
    """Return the module of Ray, connected to a cluster; what it prints goes to stderr.

    Raises MissingExtra, OutputError.
    """
    try:
        with stdout_to_stderr():
            import ray as engine
    except ImportError:
        raise MissingExtra.of("ray", "ray") from None
    if not isinstance(sys.stdout, OfOneThread):
        sys.stdout = OfOneThread(sys.stdout)
        atexit.register(sys.stdout.end)  # before Ray, which then repeats the news that came twice
    if engine.is_initialized():
        return engine
    given = os.environ.get("RAY_ADDRESS")
    address = given or ("auto" if may_have_cluster() else "local")
    try:
        check_address(address)
    except OutputError:
        if given:
            raise
        address = "local"  # no cluster runs on this machine, or it does not answer, or has lost its node
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    own = {"num_cpus": workers or cores(), "include_dashboard": False} if address == "local" else {}
    on_term = signal.getsignal(signal.SIGTERM) if threading.current_thread() is threading.main_thread() else None
    try:
        with stdout_to_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _connect(engine, address, **own, **quiet)
    except Exception as error:
        raise unreachable(address, str(error)) from None
    finally:
        if on_term is not None:  # Ray sets its own
            signal.signal(signal.SIGTERM, on_term)
    return engine


def _connect(engine: Any, address: str, **settings: Any) -> None:
    try:
        engine.init(address=address, **settings)
    except ConnectionError:
        if not address.startswith(CLIENT):
            raise
        engine.init(address=address, **settings)


def may_have_cluster(processes: Path = Path("/proc")) -> bool:
    """Return whether a cluster may run on this machine. To ask Ray costs a process that imports it: 0.5 s of CPU time.

    `ray.init` documents the file; a cluster with a folder of its own has it elsewhere, but processes of these names.
    """
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if not processes.is_dir() or Path(folder, "ray", "ray_current_cluster").exists():
        return True
    for command in processes.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if command.read_bytes().split(b"\0")[0].endswith((b"gcs_server", b"raylet")):
                return True
    return False


def check_address(address: str) -> None:
    """Raise OutputError unless a cluster answers at the address, `HOST:PORT`, `ray://HOST:PORT` or `auto`."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not port.isdigit() and address != "auto":  # `local`, or the address of a managed service
        return
    try:
        if port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise unreachable(address, error.strerror or str(error)) from None
    if (why := _refusal(address)) and address.startswith(CLIENT) and not why.startswith(_LASTING):
        why = _refusal(address)
    if why:
        raise unreachable(address, why)


_VERSION, _TOKEN = _LASTING = ("Version mismatch", "InvalidAuthToken")
"""How reasons begin that a second try does not change."""


def _refusal(address: str) -> str:
    """Return why Ray does not connect to an address; empty if it does."""
    started, command = time.monotonic(), python_command(CONNECT, address)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tries:
        assert tries.stdout is not None
        tries.stdout.readline()
        seconds = max(ANSWER_SECONDS, 5 * (time.monotonic() - started))
        try:
            why, log = tries.communicate(timeout=seconds)
            why = why.strip() or "what listens there is none, or not a healthy one"
        except subprocess.TimeoutExpired:
            tries.kill()
            why, log = f"not within {seconds:.0f} seconds", tries.communicate()[1]
    return "" if not tries.returncode else _TOKEN if _TOKEN in log else why


def unreachable(address: str, why: str) -> OutputError:
    """Return the error for an address where Ray finds no cluster that it can use."""
    reason = next((line.strip() for line in why.splitlines() if line.strip()), "no answer")
    if reason.startswith(_VERSION):  # both versions are in the lines that follow
        text = f"the Ray cluster at `{address}` has another version of Ray or Python: {' '.join(why.split())}"
        return OutputError(text, hint="use the same Ray and Python here and there", code="worker.address")
    if _TOKEN in why:
        text = f"the Ray cluster at `{address}` wants a token, or another one"
        hint = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to its token"
        return OutputError(text, hint=hint, code="worker.address")
    if address == "local":
        text, hint = f"Ray does not start on this machine: {reason}", "leave out `--executor ray`"
        return OutputError(text, hint=hint, code="worker.address")
    text = f"the Ray cluster at `{address}` does not answer: {reason}"
    hint = "check RAY_ADDRESS (HOST:6379 or ray://HOST:10001), or unset it to run on this machine"
    return OutputError(text, hint=hint, code="worker.address")


def check_nodes(engine: Any, tasks: Sequence[Any]) -> None:
    """Raise OutputError for a node without this version of chatfmt, or that does not see a file of the tasks."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    paths = sorted({path for task in tasks for path in getattr(task, "paths", ())})
    nodes = {
        str(node["NodeID"]): f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in engine.nodes()
        if node["Alive"] and node["Resources"].get("CPU")
    }

    def look(paths: list[str]) -> tuple[dict[str, str], list[str]]:  # nested: it travels to nodes without chatfmt
        import importlib
        import os
        import sys

        try:
            found = importlib.import_module("chatfmt.executors.versions").versions()
        except (ImportError, AttributeError):  # none, or one of another version
            found = {"chatfmt": getattr(sys.modules.get("chatfmt"), "__version__", "")}
        return found, [path for path in paths if not os.path.exists(path)]  # noqa: PTH110

    remote, on = engine.remote(num_cpus=0, max_retries=0)(look), NodeAffinitySchedulingStrategy
    asked = {remote.options(scheduling_strategy=on(id, soft=False)).remote(paths): nodes[id] for id in nodes}
    with stdout_to_stderr():
        answered, _ = engine.wait(list(asked), num_returns=len(asked), timeout=PREFLIGHT_SECONDS)
        for ref in answered:
            with contextlib.suppress(engine.exceptions.RayError):  # a node that was lost meanwhile runs no task
                check_node(asked[ref], *engine.get(ref))


def check_node(node: str, versions: Mapping[str, str], missing: Sequence[str]) -> None:
    """Raise OutputError for a node with other versions than this machine, or without some files."""
    if not versions.get("chatfmt"):
        hint = f'pip install "chatfmt[ray]=={__version__}" there'
        raise OutputError(f"node {node} has no chatfmt", hint=hint, code="worker.node")
    if found := difference(versions):
        raise other_versions(node, found)
    if missing:
        hint = "put it on a disk that all nodes share (XDG_CACHE_HOME for the cache), or on a store: s3://BUCKET/PREFIX"
        raise OutputError(f"node {node} cannot see `{missing[0]}`", hint=hint, code="worker.node")


def other_versions(node: str, found: Difference) -> OutputError:
    """Return the error for a node with another version of chatfmt, Python or a package."""
    name, theirs, mine = found
    if found.of_files:
        text = f"node {node} has other files of chatfmt: {theirs}, not {mine}"
        return OutputError(text, hint="install the same files of chatfmt there", code="worker.node")
    if name == "chatfmt":
        text, hint = f"node {node} has chatfmt {theirs}, not {mine}", f'pip install "chatfmt[ray]=={mine}" there'
        return OutputError(text, hint=hint, code="worker.node")
    if name == "Python":
        text = f"node {node} has Python {theirs}, not {mine}"
        return OutputError(text, hint=f"use Python {mine} there", code="worker.node")
    text = f"node {node} has another version of a package: {name} {theirs}, not {mine}"
    return OutputError(text, hint=f'pip install "{name}=={mine}" there', code="worker.node")


OF_THE_NODE = ("file.changed", "file.missing", "file.unreadable", "file.memory")
"""The codes of errors of the input that another node may not have."""


def on_node(fn: Callable[[T], R], task: T) -> R:
    """Return `fn(task)`; an error that another node may not have names this one."""
    try:
        return fn(task)
    except ChatfmtError as error:
        if isinstance(error, OutputError | MissingExtra) or error.code in OF_THE_NODE:
            error.message += f", on node {socket.gethostname()}"
        raise


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

    def end(self) -> None:
        """Send what any thread prints from now on to stderr."""
        self._thread = threading.Thread()

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
