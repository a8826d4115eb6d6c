"""A Ray cluster of a head and two workers on this machine: the contract, nodes that lack something, one that is lost.

`--full` starts it; `.ci/run` does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import chatfmt
from chatfmt import executors
from chatfmt.errors import OutputError

from ..conftest import files, run_fresh, write_rows
from ..stand_in_servers import free_port
from ..warm import ROOT
from . import tasks as work
from .support import run
from .test_executors import Contract

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (chatfmt[ray])")
SETTINGS = {
    "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "8", "RAY_health_check_initial_delay_ms": "1000",
}  # fmt: skip


class Cluster:
    """A head, and nodes that run until they are killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.nodes = folder, dict[str, subprocess.Popen[bytes]]()
        port, client = free_port(), free_port()
        self.address, self.client = f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}"
        self.start(
            "head", "--head", f"--port={port}", f"--ray-client-server-port={client}", "--include-dashboard=false",
            f"--temp-dir={folder}", "--min-worker-port=0", "--max-worker-port=0", cpus=1,
        )  # fmt: skip
        check_port(port)
        self.wait_for(1)

    def start(self, name: str, *options: str, cpus: int = 2, **env: str) -> None:
        where = options or (f"--address={self.address}",)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *where, f"--num-cpus={cpus}", "--block"]
        self.nodes[name] = subprocess.Popen(
            [*command, "--object-store-memory=80000000"],
            env={**os.environ, **SETTINGS, "PYTHONPATH": str(ROOT), **env},
            cwd=self.folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def wait_for(self, nodes: int) -> None:
        """Wait until so many nodes are alive."""
        import ray

        for _ in range(400):
            if not ray.is_initialized():
                with contextlib.suppress(ConnectionError):
                    ray.init(self.address, logging_level="ERROR", log_to_driver=False)
            elif sum(node["Alive"] for node in ray.nodes()) == nodes:
                return
            time.sleep(0.2)
        raise TimeoutError(f"there are not {nodes} nodes: {[node['Alive'] for node in ray.nodes()]}")

    def kill(self, name: str) -> None:
        node = self.nodes.pop(name)
        for pid in [node.pid, *work_processes(node.pid)]:
            with contextlib.suppress(ProcessLookupError):  # a worker that has ended by itself
                os.kill(pid, signal.SIGKILL)
        node.wait()


def check_port(port: int) -> None:
    """Wait until something listens there."""
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise TimeoutError("the head did not start")


def work_processes(pid: int) -> list[int]:
    """The processes below one of a node."""
    from .support import children

    return sorted(children(pid))


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not request.config.getoption("--full"):
        pytest.skip("a cluster takes half a minute to start: run with --full")
    import tempfile

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as folder:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        made = Cluster(Path(folder))  # its sockets need a short path
        for number, name in enumerate(("one", "two"), 2):  # one by one: at once, one of them may fail to start
            made.start(name)
            made.wait_for(number)
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        import ray

        ray.shutdown()
        for name in list(made.nodes):
            made.kill(name)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("name", ["ray"])
class TestContractOnACluster(Contract):
    """It holds on several nodes."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"q {n} é"}, {"role": "assistant", "content": "x" * (n % 9)}]}
        for n in range(900)
    ]
    return write_rows(tmp_path / "in.jsonl", rows)


def test_folders_single_shards_and_stdout(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    env = {**SETTINGS, "RAY_ADDRESS": cluster.address}
    outputs = {}
    for executor in ("ray", "serial"):
        given = ["convert", str(data), "-t", "chatml", "-q", "--executor", executor]
        rows = run_fresh(*given, stdin=b"", env=env, cwd=tmp_path)
        one = run_fresh(*given, "-o", f"{executor}.jsonl", "--json", stdin=b"", env=env, cwd=tmp_path)
        many = run_fresh(*given, "-o", executor, "--rows-per-shard", "100", stdin=b"", env=env, cwd=tmp_path)
        assert (rows.returncode, one.returncode, many.returncode) == (0, 0, 0), (rows, one, many)
        summary = json.loads(one.stdout)
        outputs[executor] = (
            rows.stdout, rows.stderr, one.stderr, {**summary, "out": ""}, (tmp_path / f"{executor}.jsonl").read_bytes(),
            files(tmp_path / executor),
        )  # fmt: skip
    assert outputs["ray"] == outputs["serial"]
    assert len(outputs["ray"][5]) == 12


def test_a_client_of_the_cluster(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    given = ["convert", str(data), "-t", "chatml", "-q", "-o"]
    env = {**SETTINGS, "RAY_ADDRESS": cluster.client}
    done = run_fresh(*given, "ray.jsonl", "--executor", "ray", stdin=b"", env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert run_fresh(*given, "here.jsonl", stdin=b"", cwd=tmp_path).returncode == 0
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_a_node_without_a_file_or_without_chatfmt_is_named(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    class Far(work.Named):
        paths = ("/no/such/file",)

    with pytest.raises(OutputError) as caught:
        run("ray", work.append_dot, [Far("far", tmp_path / "x")])
    assert caught.value.message.startswith(f"node {socket.gethostname()} (")
    assert caught.value.message.endswith(") cannot see `/no/such/file`")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\nclass No:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'chatfmt':\n            raise ModuleNotFoundError(name)\nsys.meta_path.insert(0, No())\n"
    )
    cluster.start("bare", PYTHONPATH=f"{hidden}:{ROOT}")
    cluster.wait_for(4)
    done = run_fresh("convert", str(data), "-o", str(tmp_path / "out"), "--executor", "ray", stdin=b"")
    assert done.returncode == 5
    error, hint = done.stderr.decode().splitlines()[-2:]
    assert error.startswith("error: node ") and error.endswith(" has no chatfmt")
    assert hint == f'hint: pip install "chatfmt[ray]=={chatfmt.__version__}" there'
    assert not (tmp_path / "out").exists()
    cluster.kill("bare")
    cluster.wait_for(3)
    shutil.copytree(ROOT / "chatfmt", tmp_path / "other/chatfmt", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "other/chatfmt/templates/chatml.jinja").open("a") as template:
        template.write("{# edited #}")
    cluster.start("other", PYTHONPATH=str(tmp_path / "other"))
    cluster.wait_for(4)  # its processes import from the folder of the driver first, so that is another one
    done = run_fresh("convert", str(data), "-o", str(tmp_path / "out"), "--executor", "ray", stdin=b"", cwd=tmp_path)
    assert done.returncode == 5 and f"has other files of chatfmt: {chatfmt.__version__}+" in done.stderr.decode()
    assert not (tmp_path / "out").exists()
    cluster.kill("other")
    cluster.wait_for(3)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_dead_address_fails_at_once(cluster: Cluster, data: Path, tmp_path: Path, scheme: str) -> None:
    env = {"RAY_ADDRESS": f"{scheme}127.0.0.1:{free_port()}"}
    for more in ([], ["-o", "out"]):
        started = time.monotonic()
        done = run_fresh("convert", str(data), "--executor", "ray", *more, stdin=b"", env=env, cwd=tmp_path)
        assert time.monotonic() - started < 30
        assert (done.returncode, done.stdout, done.stderr.decode().splitlines()) == (5, b"", [
            f"error: the Ray cluster at `{env['RAY_ADDRESS']}` does not answer: Connection refused",
            "hint: check RAY_ADDRESS (HOST:6379 or ray://HOST:10001), or unset it to run on this machine",
        ])  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_node_that_is_killed_changes_no_byte(cluster: Cluster, data: Path, tmp_path: Path) -> None:
    """Last: afterwards the cluster has a node less."""
    recipe = chatfmt.Recipe(source=str(data), template="chatml", rows_per_shard=10)
    chatfmt.convert(recipe, tmp_path / "serial", executor="serial")
    command = ["-t", "chatml", "--rows-per-shard", "10", "-o", "ray", "--executor", "ray", "--json"]
    started = subprocess.Popen(
        [sys.executable, "-m", "chatfmt", "convert", str(data), *command], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while len([*(tmp_path / "ray/.chatfmt/receipts").glob("*")]) < 3:
        assert started.poll() is None
        time.sleep(0.02)
    cluster.kill("two")
    summary, told = started.communicate()
    assert (started.returncode, json.loads(summary)["rows"]) == (0, 900), (summary, told)
    cluster.wait_for(2)
    assert files(tmp_path / "ray") == files(tmp_path / "serial")
    results = executors.executor("ray").run(work.slow_square, list(range(60)), 0)
    got = [next(results)]
    cluster.kill("one")
    assert [*got, *results] == [number * number for number in range(60)]
