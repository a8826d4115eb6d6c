"""Same recipe and input, same bytes of every file: for any workers, executor, hash seed, locale, zone, folder, day."""

from __future__ import annotations

import ast
import json
import locale
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import chatfmt

from ..conftest import ROOT, files, run_process, sampled, succeed, write_rows

TEMPLATE = """{{ strftime_now("%d %B %Y %A %H:%M %Z") }}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"""
FLAGS = [
    "--keep", "id", "--dedup", "--shuffle", "--seed", "3", "--test-fraction", "0.2", "--rows-per-shard", "30",
    "--on-error", "skip", "--quiet",
]  # fmt: skip


def called(number: int) -> dict[str, Any]:
    arguments = {"n": number, "ü": ["é", None, 1.0], "big": 2**70}
    call = [{"type": "function", "function": {"name": "f", "arguments": arguments}}]
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}}
    spec = {"type": "function", "function": {"name": "f", "description": "İıß", "parameters": parameters}}
    turns = [
        {"role": "user", "content": f"q {number} İ"},
        {"role": "assistant", "content": "", "tool_calls": call},
        {"role": "tool", "name": "f", "content": "ok"},
        {"role": "assistant", "content": f"a {number}"},
    ]
    return {"messages": turns, "tools": [spec], "id": number}


def make(folder: Path) -> None:
    """A folder of three JSON Lines files with tools, some rows twice and some bad, a Parquet file, and a template."""
    data = folder / "data"
    data.mkdir(parents=True)
    for place, name in enumerate(["b", "a İ", "ç"]):
        rows = [called(number) for number in range(place * 30, place * 30 + 45)]
        rows[7]["messages"][0]["role"] = "robot"
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (data / f"{name}.jsonl").write_text(text, encoding="utf-8")
    turns = [[{"role": "user", "content": f"p{n}"}, {"role": "assistant", "content": "x" * (n % 7)}] for n in range(70)]
    pq.write_table(pa.table({"messages": turns * 2, "id": range(140)}), folder / "p.parquet", row_group_size=20)
    (folder / "day.jinja").write_text(TEMPLATE)


def convert(
    where: Path, *flags: str, env: dict[str, str] | None = None, out: str = "out", **how: Any
) -> dict[str, bytes]:
    succeed(
        run_process("convert", "data", "p.parquet", "-t", "day.jinja", "-o", out, *FLAGS, *flags, cwd=where, env=env)
    )
    return files(where / out)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    make(folder)
    return folder


@pytest.fixture(scope="module")
def first(place: Path) -> dict[str, bytes]:
    env = {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C"}
    return convert(place, "--executor", "serial", env=env, out="first")


def test_the_example_has_something_of_everything(first):
    manifest = json.loads(first[".chatfmt/manifest.json"])
    totals = manifest["totals"]
    counts = {name: totals[name] for name in ("rows_in", "rows", "rejected", "duplicates")}
    assert counts == {"rows_in": 275, "rows": 174, "rejected": 3, "duplicates": 98}
    names = [shard["name"] for shard in manifest["shards"]]
    assert len(names) == 7 and {name.split("-")[0] for name in names} == {"data/train", "data/test"}
    assert sorted(first) == sorted(
        [*names, ".chatfmt/lock", ".chatfmt/manifest.json", ".chatfmt/rejects.jsonl", "README.md"]
    )


TURKISH = next((name for name in ("tr_TR.UTF-8", "tr_TR.utf8", "tr_TR") if name in locale.locale_alias.values()), "C")
RUNS: dict[str, tuple[list[str], dict[str, str]]] = {
    "two workers, another hash seed and zone, a UTF-8 locale": (
        ["--workers", "2"], {"PYTHONHASHSEED": "1", "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8"},
    ),
    "three workers, a random hash seed, a Turkish locale if there is one": (
        ["--workers", "3"], {"PYTHONHASHSEED": "random", "LC_ALL": TURKISH, "LANG": "tr_TR.UTF-8"},
    ),
    "serial, the POSIX locale, another zone, fewer threads": (
        ["--executor", "serial"],
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "TZ": "Pacific/Auckland", "OMP_NUM_THREADS": "1",
         "ARROW_IO_THREADS": "1", "PYTHONHASHSEED": "random"},
    ),
}  # fmt: skip
"""Variables that cannot interact share a run."""


@pytest.mark.parametrize("name", sampled(list(RUNS), 2))
def test_every_byte_is_the_same(name, place, first):
    flags, env = RUNS[name]
    out = name.replace(" ", "-").replace(",", "")
    assert convert(place, *flags, env=env, out=out) == first
    shutil.rmtree(place / out)


def test_in_another_folder_too(first, tmp_path):
    elsewhere = tmp_path / "a b" / "İ"
    make(elsewhere)
    assert convert(elsewhere, "--workers", "2", out="deep/er") == first


def test_absolute_paths_change_only_what_was_typed(place, first):
    sources = [str(place / "data"), str(place / "p.parquet")]
    succeed(run_process("convert", *sources, "-t", place / "day.jinja", "-o", place / "absolute", *FLAGS, cwd=ROOT))
    found = files(place / "absolute")
    typed = {".chatfmt/manifest.json", "README.md", ".chatfmt/rejects.jsonl"}
    assert {name for name in first if found[name] != first[name]} <= typed
    for name in typed:
        text = found[name].decode().replace(f"{place}/", "")
        assert untold(text) == untold(first[name].decode()), name
    shutil.rmtree(place / "absolute")


HASHED = (' "card_sha256"', ' "sha256"')


def untold(text: str) -> list[str]:
    """The lines of a manifest without the hashes of what names a path."""
    return [line for line in text.splitlines() if not line.startswith(HASHED)]


def test_from_python_as_from_the_command_line(place, first, monkeypatch):
    monkeypatch.chdir(place)
    recipe = chatfmt.Recipe(
        source=["data", "p.parquet"], template="day.jinja", keep="id", dedup=True, shuffle=True, seed=3,
        test_fraction=0.2, rows_per_shard=30, on_error="skip",
    )  # fmt: skip
    chatfmt.convert(recipe, "python", executor="serial")
    assert files(place / "python") == first
    shutil.rmtree(place / "python")


def test_templates_see_the_day_that_the_manifest_names(place, first):
    texts = [text for name in first if name.endswith(".parquet") for text in texts_of(place / "first" / name)]
    assert texts and {text.split("\n")[0].split("<")[0] for text in texts} == {"26 July 2024 Friday 00:00 "}


def texts_of(path: Path) -> list[str]:
    return pq.read_table(path).column("text").to_pylist()


CLOCKS = {"now", "today", "utcnow", "time", "time_ns", "localtime", "gmtime", "ctime", "monotonic", "perf_counter"}
CHANCE = {"random", "randint", "shuffle", "getrandbits", "token_hex", "urandom", "uuid1", "uuid4", "getpid"}
KNOWN = {
    "cli/app.py os.getpid": "the process that a signal ends",
    "cli/terminal.py time.monotonic": "how often progress is printed",
    "executors": "the workers of a run",
    "render/jinja/environment.py datetime.time": "midnight of the day that was named",
    "render/sandbox/interpreters.py os.getpid": "which process ends the one that forks sandboxes",
    "render/sandbox/renderer.py datetime.time": "midnight of the day that was named",
    "render/sandbox/worker.py datetime.datetime.now": "what it gives is thrown away: it loads the names of months",
    "render/template/chat_template.py datetime.datetime.now": "one conversation, as in transformers",
    "render/trace/symbols.py os.urandom": "marks that no data can hold, which no text keeps",
    "render/trace/symbolic_sandbox.py os.urandom": "marks that no data can hold, which no text keeps",
    "scratch_folder.py os.urandom": "the name of a folder that is removed at the end",
    "sources/discovery/hub.py os.getpid": "the name of a file that is renamed, in the cache",
    "tokens/process.py os.getpid": "which process ends the one that encodes",
    "writers/shard.py secrets.token_hex": "the name of a file that is renamed",
    "writers/staging.py os.getpid": "who holds the lock; gone with it",
}


def test_clocks_and_chance_have_no_way_into_the_output():
    """Every call in the code that asks a clock, chance or the process has its reason here."""
    found = set()
    for path in sorted((ROOT / "chatfmt").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in CLOCKS | CHANCE
            ):
                found.add(f"{path.relative_to(ROOT / 'chatfmt').as_posix()} {ast.unparse(node.func)}")
    assert {call for call in found if call not in KNOWN and not call.startswith("executors")} == set()
    assert "writers/staging.py os.getpid" in found


def test_a_finished_output_is_independent_of_the_machine(first):
    assert first[".chatfmt/lock"] == b""


def test_threads_with_the_same_recipe_do_not_share_a_sandbox(tmp_path: Path) -> None:
    turns = [[{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}] for n in range(20)]
    write_rows(tmp_path / "in.jsonl", [{"messages": each} for each in turns])
    (tmp_path / "t.jinja").write_text("{% for m in messages %}({{ m.role|upper }}){{ m.content|reverse }}{% endfor %}")
    recipe = chatfmt.Recipe(source=str(tmp_path / "in.jsonl"), template=str(tmp_path / "t.jinja"))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as pool:
            outs = [tmp_path / f"out{n}.jsonl" for n in range(6)]
            list(pool.map(lambda out: chatfmt.convert(recipe, out, executor="serial"), outs))
    finally:
        sys.setswitchinterval(interval)
    expected = [f"(USER){n[::-1]}q(ASSISTANT){n[::-1]}a" for n in map(str, range(20))]
    assert [[json.loads(line)["text"] for line in out.open()] for out in outs] == [expected] * 6
