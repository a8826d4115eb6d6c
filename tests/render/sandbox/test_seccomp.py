# ruff: noqa: E501
"""A locked process has no files, network, processes or unlimited memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chatfmt.render.sandbox.seccomp import ALLOWED, build_filter

LINUX = sys.platform == "linux" and os.uname().machine in ALLOWED

LANDLOCK = """
import importlib.util, os, socket, sys
spec = importlib.util.spec_from_file_location("seccomp", "chatfmt/render/sandbox/seccomp.py")
seccomp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(seccomp)
new_path = sys.argv[1]
listening = socket.create_server(("127.0.0.1", 0))
if not seccomp._enforce_landlock():
    sys.exit("no Landlock")
attempts = [
    lambda: open("/etc/passwd"), lambda: open(new_path, "w"), lambda: os.listdir("/"), lambda: os.mkdir(new_path),
    lambda: socket.create_connection(listening.getsockname()), lambda: os.kill(os.getppid(), 0),
]
for attempt in attempts:
    try:
        attempt()
        print("done")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.mark.skipif(not LINUX, reason="Landlock is Linux")
def test_landlock_alone_forbids_files(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", LANDLOCK, str(tmp_path / "new")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=60)
    if "no Landlock" in run.stderr:
        pytest.skip("this kernel has no Landlock")
    found = run.stdout.split()
    assert len(found) == 6
    assert list(tmp_path.iterdir()) == []
    assert found[:4] == ["PermissionError"] * 4  # the network since version 4, signals since version 6


PROBE = """
import importlib.util, json, os, resource, socket, sys, ctypes, subprocess, threading, mmap
spec = importlib.util.spec_from_file_location("seccomp", "chatfmt/render/sandbox/seccomp.py")
seccomp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(seccomp)
attempts = {
    "open to read": lambda: open("/etc/passwd"), "open to write": lambda: open("/tmp/x", "w"),
    "listdir": lambda: os.listdir("/"), "stat": lambda: os.stat("/"), "unlink": lambda: os.unlink("/tmp/x"),
    "mkdir": lambda: os.mkdir("/tmp/xy"), "socket": lambda: socket.socket(), "socketpair": lambda: socket.socketpair(),
    "fork": os.fork, "exec": lambda: os.execv("/bin/true", ["true"]), "kill": lambda: os.kill(os.getppid(), 0),
    "kill self": lambda: os.kill(os.getpid(), 9), "spawn": lambda: subprocess.run(["/bin/true"]),
    "thread": lambda: threading.Thread(target=print).start(), "pipe": os.pipe, "dup": lambda: os.dup(0),
    "chdir": lambda: os.chdir("/"), "rlimit": lambda: resource.setrlimit(0, (1, 1)),
    "code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC), "uid": lambda: os.setuid(1),
    "ptrace": lambda: 1 / (ctypes.CDLL(None, use_errno=True).ptrace(0, 0, 0, 0) + 1),
    "memory": lambda: bytearray(1 << 30), "ioctl": lambda: os.get_terminal_size(0),
}
assert seccomp.lock_process(512 << 20).startswith("seccomp")
found = {}
for name, attempt in attempts.items():
    try:
        attempt()
        found[name] = "done"
    except BaseException as error:
        found[name] = type(error).__name__
print(json.dumps(found))
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.skipif(not LINUX, reason="seccomp is Linux")
def test_a_locked_process_has_no_access_to_anything() -> None:
    import json

    root = str(Path(__file__).parents[3])
    run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, cwd=root, timeout=60)
    found = json.loads(run.stdout)
    assert len(found) == 23
    kinds = {name: kind for name, kind in found.items() if kind != "PermissionError"}
    assert kinds == {
        "rlimit": "ValueError",
        "thread": "RuntimeError",
        "ptrace": "ZeroDivisionError",
        "memory": "MemoryError",
    }


def test_the_filter_allows_the_listed_calls_and_nothing_else() -> None:
    """Runs the BPF program in Python, over every call number and both kinds of memory."""
    import struct

    def verdict(program: bytes, arch: int, number: int, prot: int) -> int:
        data = struct.pack("<iIQ6Q", number, arch, 0, 0, 0, prot, 0, 0, 0)
        code = [struct.unpack_from("HBBI", program, place) for place in range(0, len(program), 8)]
        place, register = 0, 0
        while True:
            kind, yes, no, value = code[place]
            place += 1
            if kind == 0x06:
                return int(value)
            if kind == 0x20:
                (register,) = struct.unpack_from("<I", data, value)
            else:
                place += yes if (register == value if kind == 0x15 else register & value) else no

    for machine, arch in (("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)):
        program, calls = build_filter(machine), ALLOWED[machine]
        for number in [*range(600), 0x40000000]:
            wanted = 0x7FFF0000 if number in calls.values() else 0x00050001
            assert verdict(program, arch, number, 3) == wanted
        for name in ("mmap", "mprotect"):
            assert verdict(program, arch, calls[name], 5) == 0x00050001
        assert verdict(program, arch, calls["read"], 4) == 0x7FFF0000
        assert verdict(program, 0x40000003, calls["read"], 0) == 0x80000000
