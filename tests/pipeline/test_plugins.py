"""Entry points of other packages: the package `chatfmt-haiku` in `plugin/`, found as an installed one would be."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from chatfmt.cli import main
from chatfmt.pipeline.plugins import REGISTRIES, load_plugins
from chatfmt.testing import check_dialect, check_view
from chatfmt.views import VIEWS, View

from ..conftest import from_lines, run_cli, write_rows

PLUGIN = Path(__file__).parent / "plugin"
ROWS = [{"haiku": ["old pond", "frog", "plop"]}, {"haiku": ["x"]}]
TURNS = [[{"role": "user", "content": "Haiku?"}, {"role": "assistant", "content": text}]
         for text in ("old pond\nfrog\nplop", "x")]  # fmt: skip
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    write_rows(Path("in.jsonl"), ROWS)
    before = {group: dict(registry) for group, (registry, _) in REGISTRIES.items()}
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()
    sys.modules.pop("chatfmt_haiku", None)
    for group, (registry, _) in REGISTRIES.items():
        registry.clear()
        registry.update(before[group])


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))


def install(monkeypatch: pytest.MonkeyPatch, entry_points: str, package: str = "chatfmt_bad") -> None:
    """Install a package with other entry points beside the module of the plug-in."""
    info = Path(f"{package}-0.1.dist-info")
    info.mkdir()
    Path(info, "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 0.1\n")
    Path(info, "entry_points.txt").write_text(entry_points)
    shutil.copy(PLUGIN / "chatfmt_haiku.py", ".")
    monkeypatch.syspath_prepend(".")


def convert(*flags: str) -> int:
    return main(["convert", "in.jsonl", *flags, "--executor", "serial"])


@pytest.mark.usefixtures("installed")
def test_a_dialect_a_view_a_transform_and_a_check(capsys: Output) -> None:
    assert convert("--to", "counted", "--transform", "calm=true") == 0
    shown = capsys.readouterr()
    assert from_lines(shown.out) == [{"turns": turns, "count": 2} for turns in TURNS]
    assert "haiku.short 2" in shown.err and "calm 2" in shown.err
    assert convert("--fail-on", "haiku.short") == 4
    assert capsys.readouterr().err.startswith("error: in.jsonl row 0: a haiku is short")
    assert main(["transforms"]) == 0 and "calm" in capsys.readouterr().out


@pytest.mark.usefixtures("installed")
def test_the_manifest_and_the_fingerprint_name_the_package() -> None:
    assert convert("-o", "out", "-q") == 0 and main(["verify", "out"]) == 0
    manifest = json.loads(Path("out/.chatfmt/manifest.json").read_text())
    assert (manifest["engine"], manifest["sources"][0]["dialect"]) == ({"plugins": {"chatfmt-haiku": "1.2"}}, "haiku")
    write_rows(Path("plain.jsonl"), [{"messages": TURNS[0]}])
    assert main(["convert", "plain.jsonl", "-o", "plain", "-q", "--executor", "serial"]) == 0
    assert json.loads(Path("plain/.chatfmt/manifest.json").read_text())["engine"] == {}


def test_workers_load_them(tmp_path: Path) -> None:
    flags = ("--to", "counted", "--rows-per-shard", "1", "--format", "jsonl", "-o", "out", "-q")
    done = run_cli("convert", "in.jsonl", *flags, "--workers", "2", env={"PYTHONPATH": path_with(PLUGIN)}, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    shards = sorted(Path("out/data").iterdir())
    assert [json.loads(shard.read_text())["turns"] for shard in shards] == TURNS


def path_with(folder: Path) -> str:
    return f"{folder}:{Path(__file__).parents[2]}"


@pytest.mark.parametrize(
    ("entry_points", "problem"),
    [
        ("[chatfmt.dialects]\nx = chatfmt_haiku:WRONG\n",
         "`x` in `chatfmt.dialects`, of the package `chatfmt-bad` 0.1, is of type `str`, not `Dialect`"),
        ("[chatfmt.views]\nx = chatfmt_haiku:NONE\n",
         "`x` in `chatfmt.views`, of the package `chatfmt-bad` 0.1, cannot be loaded: AttributeError: "
         "module 'chatfmt_haiku' has no attribute 'NONE'"),
        ("[chatfmt.checks]\nx = chatfmt_nowhere:X\n",
         "`x` in `chatfmt.checks`, of the package `chatfmt-bad` 0.1, cannot be loaded: ModuleNotFoundError: "
         "No module named 'chatfmt_nowhere'"),
        ("[chatfmt.dialects]\nmessages = chatfmt_haiku:HAIKU\n",
         "`messages` in `chatfmt.dialects`, of the package `chatfmt-bad` 0.1, has a name that is taken by `chatfmt`"),
    ],
)  # fmt: skip
def test_a_broken_plug_in_is_named(
    entry_points: str, problem: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    install(monkeypatch, f"[chatfmt.transforms]\ncalm = chatfmt_haiku:CALM\n\n{entry_points}")
    for _ in range(2):
        assert convert() == 2
        said = f"error: {problem}\nhint: update the package, or remove it: pip uninstall chatfmt-bad\n"
        assert capsys.readouterr().err == said
    assert "calm" not in REGISTRIES["chatfmt.transforms"][0]


@pytest.mark.usefixtures("installed")
def test_two_packages_cannot_have_one_name(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    install(monkeypatch, "[chatfmt.views]\ncounted = chatfmt_haiku:COUNTED\n", "chatfmt_other")
    assert convert() == 2
    assert "has a name that is taken by `chatfmt-" in capsys.readouterr().err


def test_help_and_packages_without_entry_points_load_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    install(monkeypatch, "[chatfmt.dialects]\nx = chatfmt_haiku:WRONG\n")
    assert main(["convert", "--help"]) == 0 and "chatfmt_haiku" not in sys.modules
    capsys.readouterr()
    Path("chatfmt_bad-0.1.dist-info/entry_points.txt").write_text("[console_scripts]\nx = chatfmt_haiku:WRONG\n")
    assert load_plugins() == ()


@pytest.mark.usefixtures("installed")
def test_authors_test_their_dialect_and_their_view() -> None:
    assert check_dialect("haiku", ROWS) == [{"messages": turns} for turns in TURNS]
    assert check_view("counted", ROWS) == [{"turns": turns, "count": 2} for turns in TURNS]


@pytest.mark.usefixtures("installed")
def test_a_contract_that_is_broken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load_plugins()
    with pytest.raises(AssertionError, match="the rows are read by `messages`"):
        check_dialect("haiku", [{"messages": TURNS[0]}])

    def undeclared(batch: Any) -> dict[str, pa.Array]:
        return {"other": pa.array([1] * len(batch))}

    def unequal(batch: Any) -> dict[str, pa.Array]:
        return {"a": pa.array([len(batch)] * len(batch))}

    monkeypatch.setitem(VIEWS, "undeclared", View(undeclared, "x", ("a",)))
    with pytest.raises(AssertionError, match=r"the view declares the columns \('a',\), and makes \['other'\]"):
        check_view("undeclared", ROWS)
    monkeypatch.setitem(VIEWS, "unequal", View(unequal, "x", ("a",)))
    with pytest.raises(AssertionError, match="a row becomes something else if it is alone in its batch"):
        check_view("unequal", ROWS)
