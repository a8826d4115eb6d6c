"""Temporary folders: locked by the living, removed after the dead, never anybody else's."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from chatfmt import scratch_folder
from chatfmt.errors import OutputError
from chatfmt.scratch_folder import LOCK, Scratch, remove_abandoned, spool, write

from .conftest import run_cli

OTHER_USER = 65534
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no flock")


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files during a test."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def abandoned(parent: Path) -> Path:
    """Return a scratch folder with files whose process is dead."""
    read, written = os.pipe()
    if (pid := os.fork()) == 0:
        made = Scratch(parent)
        (made.folder / "unpacked" / "deep").mkdir(parents=True)
        (made.folder / "unpacked" / "deep" / "a.jsonl").write_text("{}")
        (made.folder / "stdin").write_text("{}")
        os.write(written, str(made.folder).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    return Path(os.read(read, 4096).decode())


def test_a_folder_is_locked_used_and_removed(system: Path) -> None:
    made = Scratch()
    assert made.folder.parent == system and made.folder.stat().st_mode & 0o777 == 0o700
    assert made.files == []
    write(made.folder / "b", [b"one ", b"two"])
    write(made.folder / "a", [])
    assert made.files == [made.folder / "a", made.folder / "b"]
    assert (made.folder / "b").read_bytes() == b"one two"
    made.remove()
    made.remove()
    assert names(system) == []


def test_beside_an_output_it_is_hidden_unless_that_cannot_be_written_to(tmp_path: Path, system: Path) -> None:
    made = Scratch(tmp_path)
    assert made.folder.parent == tmp_path and made.folder.name.startswith(".chatfmt-")
    made.remove()
    elsewhere = Scratch(Path("/proc"))
    assert elsewhere.folder.parent == system
    elsewhere.remove()


def test_the_next_folder_removes_those_of_the_dead(tmp_path: Path, system: Path) -> None:
    (beside := tmp_path / "beside").mkdir()
    old = [abandoned(system), abandoned(beside), abandoned(system)]
    assert [path.exists() for path in old] == [False, True, True]  # the third process was the next one
    made = Scratch(beside)
    name = made.folder.name
    assert names(beside) == [name, f"{name}/{LOCK}"] and names(system) == []
    made.remove()


def test_those_of_the_living_and_of_their_forks_stay(system: Path) -> None:
    made, second = Scratch(), Scratch()
    assert made.folder.exists() and second.folder.exists()
    os.set_inheritable(made._lock or 0, True)
    child = subprocess.Popen(["sleep", "60"], pass_fds=[made._lock or 0])
    os.close(made._lock or 0)
    remove_abandoned(system)
    assert made.folder.exists()
    child.kill()
    child.wait()
    remove_abandoned(system)
    assert not made.folder.exists() and second.folder.exists()
    second.remove()


def test_a_copy_in_another_process_removes_nothing() -> None:
    made = Scratch()
    folder = made.folder
    copy = pickle.loads(pickle.dumps(made))
    copy.remove()
    assert copy.folder == folder and folder.exists()
    made.remove()


def link(path: Path, target: Path) -> None:
    path.rmdir()
    path.symlink_to(target)


def of_another_user(path: Path, target: Path) -> None:
    (path / LOCK).touch()
    os.chown(path, OTHER_USER, OTHER_USER)


def with_a_lock_of_another_user(path: Path, target: Path) -> None:
    (path / LOCK).touch()
    os.chown(path / LOCK, OTHER_USER, OTHER_USER)


def with_a_link_for_a_lock(path: Path, target: Path) -> None:
    (path / LOCK).symlink_to(target / "precious")


def with_a_pipe_for_a_lock(path: Path, target: Path) -> None:
    os.mkfifo(path / LOCK)


def without_a_lock(path: Path, target: Path) -> None:
    (path / "mine").touch()


@pytest.mark.parametrize(
    "make",
    [
        link, of_another_user, with_a_lock_of_another_user, with_a_link_for_a_lock, with_a_pipe_for_a_lock,
        without_a_lock,
    ],
)  # fmt: skip
def test_foreign_folders_stay(make: Callable[[Path, Path], None], tmp_path: Path, system: Path) -> None:
    if "user" in make.__name__ and os.geteuid() != 0:
        pytest.skip("only root can make files of other users")
    (target := tmp_path / "target").mkdir()
    (target / "precious").touch()
    (target / LOCK).touch()
    path = system / f"chatfmt-{scratch_folder.HOST}-abcdefgh"
    path.mkdir()
    make(path, target)
    before = names(tmp_path)
    remove_abandoned(system)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["chatfmt-other-abcdefgh", "chatfmt-abcdefgh", "chatfmt-{}-mine", "chatfmt-{}-abcdefgh.d"]
)
def test_folders_of_other_hosts_and_other_names_stay(name: str, system: Path) -> None:
    path = system / name.format(scratch_folder.HOST)
    path.mkdir()
    (path / LOCK).touch()
    before = names(system)
    remove_abandoned(system)
    assert names(system) == before


def test_links_inside_are_removed_not_followed(tmp_path: Path, system: Path) -> None:
    (target := tmp_path / "target").mkdir()
    (target / "precious").touch()
    path = system / f"chatfmt-{scratch_folder.HOST}-abcdefgh"
    path.mkdir()
    (path / LOCK).touch()
    (path / "folder").symlink_to(target)
    (path / "file").symlink_to(target / "precious")
    remove_abandoned(system)
    assert names(system) == [] and names(target) == ["precious"]


def test_a_process_killed_at_any_call_leaves_nothing_that_the_next_one_does_not_remove(system: Path) -> None:
    """The n-th system call of making, filling and removing a folder is the last one, for every n."""
    kills = 0
    while True:
        if (pid := os.fork()) == 0:
            _die_at_call(kills)
            made = Scratch()
            write(made.folder / "stdin", [b"{}"])
            (made.folder / "unpacked").mkdir()
            made.remove()
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        remove_abandoned(system)
        assert names(system) == [], f"killed at call {kills}"
        if os.WIFEXITED(status):
            break
        kills += 1
    assert kills > 10


def _die_at_call(count: int) -> None:
    """Make the process kill itself at an audited event (`sys.audit`): the opening, making or removing of files."""
    left = count

    def hook(event: str, arguments: object) -> None:
        nonlocal left
        if event in ("open", "os.mkdir", "os.remove", "os.rmdir", "os.listdir", "os.scandir", "fcntl.flock"):
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(hook)


@pytest.mark.parametrize("free", range(12))
def test_a_process_that_may_open_no_more_files_leaves_nothing(free: int, tmp_path: Path, system: Path) -> None:
    """Whether the limit is reached in making the folder, in filling it or in removing it."""
    if (pid := os.fork()) == 0:
        used = [os.open(os.devnull, os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (used[0] + 1 + free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with suppress(OSError, OutputError):
            made = Scratch(tmp_path / "out")
            (made.folder / "unpacked" / "deep").mkdir(parents=True)
            with suppress(OSError):
                while True:
                    used.append(os.open(made.folder / "unpacked" / "deep" / str(len(used)), os.O_CREAT))
            made.remove()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert names(tmp_path) == ["tmp"]


def test_two_processes_that_make_and_remove_at_once(system: Path) -> None:
    """Each finds its own folder whole, however often the other removes the folders of the dead."""
    code = (
        "import tempfile, sys; tempfile.tempdir = sys.argv[1]\n"
        "from chatfmt.scratch_folder import Scratch, write\n"
        "for _ in range(150):\n"
        "    made = Scratch(); write(made.folder / 'stdin', [b'{}'])\n"
        "    assert [path.name for path in made.files] == ['stdin']; made.remove()\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(system)]) for _ in range(3)]
    assert [one.wait() for one in both] == [0, 0, 0]
    assert names(system) == []


def test_stdin_is_spooled_with_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Scratch()
    spool([b"x" * 60, b"x" * 40], made.folder / "stdin", 100)
    assert (made.folder / "stdin").stat().st_size == 100
    with pytest.raises(OutputError, match="stdin holds more than the 99 bytes that may be written to"):
        spool([b"x" * 60, b"x" * 40], made.folder / "stdin", 99)
    monkeypatch.setattr("shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and type("U", (), {"free": 198}))
    with pytest.raises(OutputError, match="more than the 99 bytes"):
        spool([b"x" * 60, b"x" * 40], made.folder / "stdin", None)
    made.remove()


def test_a_full_disk_names_the_folder_and_the_remedy(system: Path) -> None:
    made = Scratch()
    for path in (made.folder / "stdin", made.folder / "unpacked" / "a"):
        with pytest.raises(OutputError) as caught, scratch_folder.explained(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert str(caught.value) == f"cannot write temporary files to `{system}`: the disk is full"
        assert caught.value.hint == "free some space there, or choose another folder with TMPDIR=DIR"
        assert caught.value.code == "scratch.enospc"
    with pytest.raises(OutputError) as caught, scratch_folder.explained(made.folder / "stdin"):
        raise OSError(errno.EACCES, "Permission denied")
    assert str(caught.value) == f"cannot write temporary files to `{system}`: permission denied"
    assert (caught.value.hint, caught.value.code) == ("choose another folder with TMPDIR=DIR", "scratch.eacces")
    made.remove()


def test_no_folder_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(OutputError, match="no folder for temporary files can be written to"):
        _ = Scratch().folder


ROWS = b'{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}]}\n' * 20


def test_stdin_is_spooled_beside_the_output(tmp_path: Path, system: Path) -> None:
    """A run that is killed while it reads stdin leaves its folder to the next one, which others outlive."""
    out = "deep/er/out/"
    command = [sys.executable, "-m", "chatfmt", "convert", "-", "-q", "-o", out]
    env = {**os.environ, "TMPDIR": str(system)}
    killed = started(command, tmp_path, env)
    folder = spooling(tmp_path)
    assert folder.parent == (tmp_path / out).parent
    killed.kill()
    killed.wait()
    assert folder.exists()
    other = started([*command[:-1], "deep/er/other.jsonl"], tmp_path, env)
    third = spooling(tmp_path, folder)
    assert not folder.exists()
    last = subprocess.run(command, input=ROWS, cwd=tmp_path, env=env)
    assert last.returncode == 0 and third.exists()
    other.communicate(ROWS)
    assert other.returncode == 0 and not third.exists()
    assert list(system.iterdir()) == [] and not list(tmp_path.rglob(".chatfmt-*"))


def started(command: list[str], cwd: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a command that waits for the rest of its stdin."""
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(ROWS)
    process.stdin.flush()
    return process


def spooling(folder: Path, other: Path | None = None) -> Path:
    """Wait until a process spools stdin below a folder; return its scratch folder."""
    while not (found := [path.parent for path in folder.rglob("stdin") if path.parent != other]):
        time.sleep(0.01)
    return found[0]


def test_a_limit_leaves_nothing_behind(tmp_path: Path) -> None:
    run = run_cli("convert", "-", "-o", "out/", "--spool-limit", "1KB", stdin=ROWS, cwd=tmp_path)
    assert run.returncode == 5
    assert run.stderr.decode().splitlines() == [
        f"error: stdin holds more than the 1,000 bytes that may be written to `{tmp_path}`",
        "hint: raise the limit, as in --spool-limit 500GB, or save stdin to a file and name that",
    ]
    assert names(tmp_path) == ["tmp"]
