"""Crashes in native code end the run with one line that says where, and without partial output."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ..conftest import run_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")

ROWS = 5000
HINT = "hint: its input may be damaged: check it with another tool, or exclude it\n"
BREAK = """
import os, signal, sys
from importlib.abc import MetaPathFinder

def deadly(fn):
    def call(batch, *rest, **named):
        if "DEADLY" in str(batch.to_pylist()):
            os.kill(os.getpid(), signal.SIGSEGV)
        return fn(batch, *rest, **named)
    return call

class Breaker(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == MODULE:
            sys.meta_path.remove(self)
            from importlib.util import find_spec
            spec = find_spec(name)
            run = spec.loader.exec_module
            def broken(module):
                run(module)
                setattr(module, FUNCTION, deadly(getattr(module, FUNCTION)))
            spec.loader.exec_module = broken
            return spec

sys.meta_path.insert(0, Breaker())
"""


def broken(folder: Path, module: str, function: str) -> dict[str, str]:
    """An environment in which `function` of `module` crashes on a batch that holds the word DEADLY."""
    folder.mkdir()
    text = BREAK.replace("MODULE", repr(module)).replace("FUNCTION", repr(function))
    (folder / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": str(folder)}


def write(path: Path, deadly: int) -> Path:
    turns = [[{"role": "user", "content": "DEADLY" if row == deadly else f"say {row}"}] for row in range(ROWS)]
    pq.write_table(pa.table({"messages": turns}), path, row_group_size=1000)
    return path


def text(row: int) -> str:
    return json.dumps({"text": f"<|im_start|>user\nsay {row}<|im_end|>\n"}, separators=(",", ":")) + "\n"


def said(stderr: bytes) -> str:
    """What was said, numbers of processes aside."""
    return re.sub(r"worker \d+", "worker N", stderr.decode())


def crashed(first: str, second: str) -> str:
    """What is said of two crashes of one task."""
    killed = "worker N was killed by SIGSEGV"
    return f"{killed}, {first}; retrying\nerror: native code crashed twice: {killed}, {second}\n{HINT}"


def test_a_crash_in_a_task_is_narrowed_to_its_row(tmp_path):
    source, out = write(tmp_path / "x.parquet", 2517), tmp_path / "out"
    env = broken(tmp_path / "site", "chatfmt.checks", "run")
    run = run_process(
        "convert", source, "-t", "chatml", "-o", out, "--rows-per-shard", "2500", "--workers", "2", env=env
    )
    name = "data/train-00001-of-00002.parquet"
    assert said(run.stderr).splitlines() == [
        f"worker N was killed by SIGSEGV while running task 1 (`{name}`); retrying",
        f"error: native code crashed twice on task 1 (`{name}`): worker N was killed by SIGSEGV, "
        f"at `{source}` row 2517",
        HINT.strip(),
    ]
    assert run.returncode == 3
    assert sorted(path.name for path in out.iterdir()) == [".chatfmt"]
    again = run_process("convert", source, "-t", "chatml", "-o", out, "--rows-per-shard", "2500", "--resume", "-q")
    assert (again.returncode, again.stderr) == (0, b"")


def test_a_crash_on_the_way_to_stdout_comes_after_the_rows_before_it(tmp_path):
    source = write(tmp_path / "x.parquet", 4217)
    run = run_process("convert", source, "-t", "chatml", env=broken(tmp_path / "site", "chatfmt.checks", "run"))
    assert run.stdout.decode() == "".join(map(text, range(4217)))
    assert said(run.stderr) == crashed(f"at `{source}` rows 4000 to 4999", f"at `{source}` row 4217")
    assert run.returncode == 3


@pytest.mark.parametrize("command", [["convert", "-t", "chatml"], ["inspect"], ["preview"], ["check"]])
def test_a_crash_while_the_first_rows_are_read(tmp_path, command):
    source = write(tmp_path / "x.parquet", 3)
    run = run_process(*command, source, env=broken(tmp_path / "site", "chatfmt.sources.formats.columnar", "numbered"))
    where = f"at the first rows of `{source}`"
    assert said(run.stderr) == crashed(where, where)
    assert (run.returncode, run.stdout) == (3, b"")


def test_a_name_that_a_terminal_would_obey_is_written_out_in_the_warning_too(tmp_path):
    source = write(tmp_path / "\x1b[31mred.parquet", 3)
    run = run_process("inspect", source, env=broken(tmp_path / "site", "chatfmt.sources.formats.columnar", "numbered"))
    where = f"at the first rows of `{tmp_path}/\\x1b[31mred.parquet`"
    assert said(run.stderr) == crashed(where, where)


def test_a_crash_of_a_reader_later_on(tmp_path):
    source = write(tmp_path / "x.parquet", 4217)
    env = broken(tmp_path / "site", "chatfmt.sources.formats.columnar", "numbered")
    where = f"at `{source}`, while reading it from row 4000 on"
    run = run_process("convert", "-t", "chatml", source, env=env)
    assert said(run.stderr) == crashed(where, where)
    assert (run.returncode, run.stdout.decode()) == (3, "".join(map(text, range(4000))))
    run = run_process("check", source, env=env)
    killed, task = "worker N was killed by SIGSEGV", f"task 0 (`{source}`)"
    assert said(run.stderr) == (
        f"{killed} while running {task}; retrying\n"
        f"error: native code crashed twice on {task}: {killed}, {where}\n{HINT}"
    )
    assert (run.returncode, run.stdout) == (3, b"")


def holders(folder: Path) -> list[int]:
    """The processes that write to an unfinished shard in the folder."""
    staged, found = str(folder / "out" / ".chatfmt" / "staged" / "data"), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            targets = [str(link.readlink()) for link in (process / "fd").iterdir()]
            found += [int(process.name)] * any(name.startswith(staged) and name.endswith(".part") for name in targets)
    return found


def test_a_killed_worker_leaves_nothing_in_the_output(tmp_path):
    data = tmp_path / "in.jsonl"
    turn = json.dumps({"messages": [{"role": "user", "content": "x " * 2000}, {"role": "assistant", "content": "y"}]})
    data.write_text(f"{turn}\n" * 12_000)
    command = ["convert", str(data), "-t", "chatml", "-o", "out", "--rows-per-shard", "6000", "--workers", "2"]
    run = subprocess.Popen([sys.executable, "-m", "chatfmt", *command], cwd=tmp_path, stderr=subprocess.PIPE)
    killed: list[int] = []
    while not killed and run.poll() is None:
        for pid in holders(tmp_path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
    _, said = run.communicate(timeout=120)
    assert killed and run.pid not in killed
    assert run.returncode == 0, said.decode()
    assert sorted(path.name for path in (tmp_path / "out" / "data").iterdir()) == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    assert run_process("verify", "out", cwd=tmp_path).returncode == 0
    assert run_process(*command[:4], "-o", "again", *command[6:], cwd=tmp_path).returncode == 0
    for name in ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", ".chatfmt/manifest.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
