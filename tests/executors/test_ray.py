"""Ray, if it is installed: a conversion gives the bytes that processes give, and each task runs once."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import chatfmt
from chatfmt import executors
from chatfmt.errors import InputError, Location, OutputError, RowError
from chatfmt.executors import versions

from ..conftest import files, write_rows
from . import tasks as work

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (chatfmt[ray])")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Shut the cluster down at the end."""
    yield
    import ray

    ray.shutdown()


def test_a_conversion_gives_the_bytes_that_processes_give(tmp_path: Path) -> None:
    data = tmp_path / "in.jsonl"
    rows = [
        {
            "messages": [{"role": "user", "content": f"q {n} é"}, {"role": "assistant", "content": "x" * (n % 9)}],
            "id": n,
        }
        for n in range(600)
    ]
    rows[77]["messages"] = [{"role": "robot", "content": "?"}]
    write_rows(data, rows)
    recipe = chatfmt.Recipe(
        source=str(data), template="chatml", keep="id", rows_per_shard=100, on_error="skip", dedup=True, shuffle=True,
        test_fraction=0.2,
    )  # fmt: skip
    with_ray = chatfmt.convert(recipe, tmp_path / "ray", executor="ray", workers=2)
    chatfmt.convert(recipe, tmp_path / "processes", executor="processes", workers=2)
    assert (with_ray.rows_in, with_ray.rejected, with_ray.duplicates) == (600, 1, 0)
    assert files(tmp_path / "ray") == files(tmp_path / "processes")


def test_each_task_runs_once(tmp_path: Path) -> None:
    tasks = [work.Named(f"task {n}", tmp_path / str(n)) for n in range(12)]
    list(executors.executor("ray").run(work.append_dot, tasks, 2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {str(n): b"." for n in range(12)}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let an interrupt raise KeyboardInterrupt: a process that a shell has started with `&` ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_has_no_task_that_still_writes(tmp_path: Path) -> None:
    def interrupt() -> None:
        while len(files(tmp_path)) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(executors.executor("ray").run(work.append_dots, [tmp_path / str(n) for n in range(8)], 2))
    written = files(tmp_path)
    time.sleep(1)
    assert files(tmp_path) == written and sorted(written) == ["0", "1"]


@pytest.mark.parametrize("losses", [1, 2])
def test_a_task_whose_result_is_lost_runs_once_more(losses: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    get, lost = ray.get, list[object]()

    def get_or_lose(ref: object, **more: object) -> object:
        result = get(ref, **more)
        if getattr(result, "kind", "") == "result" and len(lost) < losses:
            lost.append(ref)
            raise ray.exceptions.OwnerDiedError("00ff", b"", "")
        return result

    list(executors.executor("ray").run(work.square, [1], 2))
    monkeypatch.setattr(ray, "get", get_or_lose)
    results = executors.executor("ray").run(work.square, [1, 2, 3], 2)
    if losses == 1:
        assert list(results) == [1, 4, 9]
    else:
        with pytest.raises(OutputError) as caught:
            list(results)
        assert caught.value.message == "two workers died at task 0: Ray lost it twice: OwnerDiedError"
    assert len({*lost}) == losses


def test_an_error_of_a_row_is_the_same(tmp_path: Path) -> None:
    data = tmp_path / "in.jsonl"
    data.write_text('{"messages":[{"role":"user","content":"hi"}]}\n{"messages":[{"role":"robot","content":"?"}]}\n')
    recipe = chatfmt.Recipe(source=str(data), template="chatml", rows_per_shard=1)
    errors = []
    for executor in ("ray", "processes"):
        with pytest.raises(chatfmt.ChatfmtError) as caught:
            chatfmt.convert(recipe, tmp_path / executor, executor=executor, workers=2)
        errors.append((str(caught.value), caught.value.hint, caught.value.exit_code))
    assert errors[0] == errors[1]
    assert errors[0] == (
        f"{data} row 1: unknown role `robot` (message 0, line 2)",
        "map it with --role robot=ROLE: system, user, assistant or tool",
        4,
    )


def test_a_task_that_kills_its_worker_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        list(executors.executor("ray").run(work.die, [work.Named("deadly", Path("SIGKILL"))], 2))
    assert caught.value.code == "worker.lost"
    assert caught.value.message.startswith("two workers died at task 0 (`deadly`)")


def test_a_node_with_another_chatfmt_python_or_package_is_named() -> None:
    ray = importlib.import_module("chatfmt.executors.ray")
    mine = versions.versions()
    ray.check_node("n (10.0.0.1)", {"chatfmt": mine["chatfmt"]}, [])
    here = chatfmt.__version__
    for name, theirs, text, hint in (
        ("chatfmt", "0.0.9", f"chatfmt 0.0.9, not {here}", f'pip install "chatfmt[ray]=={here}" there'),
        (
            "chatfmt", f"{here}+00000000", f"other files of chatfmt: {here}+00000000, not {mine['chatfmt']}",
            "install the same files of chatfmt there",
        ),
        ("Python", "3.10", f"Python 3.10, not {mine['Python']}", f"use Python {mine['Python']} there"),
        (
            "pyarrow", "19.0", f"another version of a package: pyarrow 19.0, not {mine['pyarrow']}",
            f'pip install "pyarrow=={mine["pyarrow"]}" there',
        ),
    ):  # fmt: skip
        with pytest.raises(OutputError) as caught:
            ray.check_node("n (10.0.0.1)", {**mine, name: theirs}, [])
        assert (caught.value.message, caught.value.hint) == (f"node n (10.0.0.1) has {text}", hint)
    with pytest.raises(OutputError, match=re.escape("node n (10.0.0.1) has no chatfmt")):
        ray.check_node("n (10.0.0.1)", {"chatfmt": ""}, [])


def test_each_reason_why_a_cluster_cannot_be_used_has_its_hint() -> None:
    ray = importlib.import_module("chatfmt.executors.ray")
    why = "Version mismatch: The cluster was started with:\n    Ray: 2.60.0\nThis process was: 2.40.0"
    for address, reason, text, hint in (
        (
            "h:6379", why, f"the Ray cluster at `h:6379` has another version of Ray or Python: {' '.join(why.split())}",
            "use the same Ray and Python here and there",
        ),
        (
            "h:6379", "InvalidAuthToken: …", "the Ray cluster at `h:6379` wants a token, or another one",
            "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to its token",
        ),
        (
            "h:6379", "\n refused\nmore", "the Ray cluster at `h:6379` does not answer: refused",
            "check RAY_ADDRESS (HOST:6379 or ray://HOST:10001), or unset it to run on this machine",
        ),
        ("local", "no memory", "Ray does not start on this machine: no memory", "leave out `--executor ray`"),
    ):  # fmt: skip
        error = ray.unreachable(address, reason)
        assert (error.message, error.hint, error.code) == (text, hint, "worker.address")


def test_a_cluster_on_this_machine_is_looked_for_where_there_may_be_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ray = importlib.import_module("chatfmt.executors.ray")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    for number, name in enumerate(("raylet.py", "bash", "/x/raylet")):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "cmdline").write_bytes(f"{name}\0--gcs-address=x\0".encode())
        assert ray.may_have_cluster(tmp_path) == (number == 2)
    assert ray.may_have_cluster(tmp_path / "none") and not ray.may_have_cluster(tmp_path / "1")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:6379")
    assert ray.may_have_cluster(tmp_path / "1")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_that_accepts_connections_and_never_answers_is_given_up(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = importlib.import_module("chatfmt.executors.ray")
    monkeypatch.setattr(ray, "ANSWER_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(OutputError, match=f"the Ray cluster at `{address}` does not answer: not within"):
            ray.check_address(address)


@pytest.mark.parametrize("why", ["Version mismatch: The cluster was started with:", "InvalidAuthToken"])
def test_what_a_second_try_does_not_change_is_tried_once(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ray, seen = importlib.import_module("chatfmt.executors.ray"), list[str]()
    monkeypatch.setattr(ray, "_refusal", lambda address: seen.append(address) or why)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(OutputError):
        ray.check_address(address := f"ray://127.0.0.1:{server.getsockname()[1]}")
    assert seen == [address]


@pytest.mark.parametrize(("scheme", "tries"), [("", 1), ("ray://", 2)])
def test_a_client_connects_at_the_second_try(scheme: str, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray as engine

    ray, seen = importlib.import_module("chatfmt.executors.ray"), list[str]()

    def fail_once(address: str, **more: object) -> str:
        seen.append(address)
        if more and len(seen) == 1:
            raise ConnectionError("no process")
        return "no process" if len(seen) == 1 else ""

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(ray, "_refusal", fail_once)
        with pytest.raises(OutputError) if tries == 1 else contextlib.nullcontext():
            ray.check_address(address)
        assert seen == [address] * tries
    seen.clear()
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "check_address", lambda address: None)
    monkeypatch.setattr(engine, "is_initialized", lambda: False)
    monkeypatch.setattr(engine, "init", fail_once)
    with pytest.raises(OutputError) if tries == 1 else contextlib.nullcontext():
        ray.connected(1)
    assert seen == [address] * tries


def test_an_error_that_another_node_may_not_have_names_the_node() -> None:
    here = socket.gethostname()
    for error, suffix in (
        (InputError("another file", code="file.changed", at=Location("in.jsonl")), f", on node {here}"),
        (OutputError("disk full"), f", on node {here}"), (RowError("bad", at=Location("in.jsonl", 1)), ""),
    ):  # fmt: skip
        text = f"{error}{suffix}"
        with pytest.raises(type(error)) as caught:
            list(executors.executor("ray").run(work.fail_with, [error], 1))
        assert str(caught.value) == text
