"""A conversion in parts: any order, any machine, again and again, and the bytes are those of `convert`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import chatfmt
from chatfmt import manifest, pipeline, writers
from chatfmt.errors import ChatfmtError, DataProblem, InputError, OutputError, UsageError
from chatfmt.executors import EXECUTORS, Executor
from chatfmt.pipeline import Scratch, commit, find_plan, run_part, target_of, write_plan
from chatfmt.pipeline.plan_file import read_plan
from chatfmt.recipe import Recipe, Run

from ..conftest import run_cli
from ..executors.test_elsewhere import write_tokenizer
from ..stand_in_servers import FileServer
from .test_convert import ROWS, tree, write_jsonl, write_parquet

Sources = list[dict[str, object]]
SERIAL = Run(executor="serial", workers=1)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(recipe: Recipe, out: str, **options: object) -> Path:
    copy = options.pop("copy", None)
    with Scratch() as scratch:
        made = pipeline.plan(recipe, target_of(out, recipe.format, recipe.compression), scratch, SERIAL)
        return write_plan(made, scratch, Run(**options), copy)


def recipe_of(source: object, **keys: object) -> Recipe:
    given = {"source": source, "template": "chatml", "keep": "id", "rows_per_shard": 150, **keys}
    return Recipe(**given)


def whole(recipe: Recipe, out: str) -> dict[str, str]:
    """What `convert` makes of the recipe, at a place of its own."""
    Path("whole").mkdir(exist_ok=True)
    chatfmt.convert(recipe, out=Path("whole") / out, executor="serial", workers=1)
    return tree(Path("whole"))


def do(path: Path, *parts: int, of: int) -> None:
    for part in parts:
        run_part(path, part, of, SERIAL)


SELECTING = {"dedup": True, "shuffle": True, "test_fraction": 0.2}


@pytest.mark.parametrize(
    ("out", "write", "keys"),
    [
        ("out", write_jsonl, {}),
        ("out", write_parquet, {"keep": "all"}),
        ("out.jsonl.zst", write_jsonl, {}),
        ("out.parquet", write_jsonl, {"keep": "all", "template": None}),
        ("out", write_jsonl, SELECTING),
        ("out", write_parquet, {"rows_per_shard": None, "shards": 4}),
        ("out.jsonl", write_parquet, {"shuffle": True}),
    ],
)
def test_parts_write_the_bytes_of_one_run(tmp_path, out, write, keys):
    recipe = recipe_of(write(tmp_path / "in"), **keys)
    path = plan(recipe, out)
    assert path == find_plan(Path(out)) == find_plan(path)
    do(path, 3, 1, 3, 2, of=3)
    summary = commit(Path(out), SERIAL)
    assert (summary.rows_in, summary.rows) == (900, 900)
    Path("parts").mkdir()
    shutil.move(out, "parts")
    assert tree(Path("parts")) == whole(recipe, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "parts", "whole"]


def test_a_commit_names_what_is_missing(tmp_path):
    path = plan(recipe_of(write_jsonl(tmp_path / "in.jsonl")), "out")
    do(path, 2, of=2)
    with pytest.raises(OutputError) as caught:
        commit(Path("out"), SERIAL)
    assert (str(caught.value), caught.value.hint) == (
        "3 of 6 shards are missing: `data/train-00000-of-00006.parquet`, `data/train-00002-of-00006.parquet`, "
        "`data/train-00004-of-00006.parquet`",
        f"chatfmt run {path} --task 1/1 runs them here; as parts: --task I/6, where I is 1, 3, 5",
    )
    do(path, 1, 3, of=6)
    with pytest.raises(OutputError, match="1 of 6 shards is missing: `data/train-00004-of-00006.parquet`") as caught:
        commit(Path("out"), SERIAL)
    assert caught.value.hint == f"chatfmt run {path} --task 5/6"
    do(path, 1, of=1)
    assert commit(Path("out"), SERIAL).rows == 900 and manifest.verify(Path("out")) == []
    assert commit(Path("out"), SERIAL).already_complete


def test_what_is_done_is_not_done_again_and_what_was_damaged_is(tmp_path):
    path = plan(recipe_of(write_jsonl(tmp_path / "in.jsonl")), "out")
    do(path, 1, of=1)
    staged = sorted((tmp_path / "out/.chatfmt/staged/data").iterdir())
    before = [file.stat().st_mtime_ns for file in staged]
    staged[1].write_bytes(b"damaged")
    do(path, 1, of=1)
    after = [file.stat().st_mtime_ns for file in staged]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True, True, True, True]
    staged[2].write_bytes(b"damaged")
    commit(Path("out"), SERIAL)
    assert manifest.verify(Path("out")) == []


def test_convert_finishes_what_was_planned(tmp_path):
    recipe = recipe_of(write_jsonl(tmp_path / "in.jsonl"))
    do(plan(recipe, "out"), 2, of=3)
    chatfmt.convert(recipe, out="out", resume=True, workers=1)
    assert tree(tmp_path / "out") == {name.removeprefix("out/"): data for name, data in whole(recipe, "out").items()}


def test_input_that_lies_nowhere_else_is_kept_with_the_plan(tmp_path):
    rows = write_jsonl(tmp_path / "rows", ROWS[:40])
    subprocess.run(["gzip", rows], check=True)
    recipe = recipe_of("rows.gz", rows_per_shard=10)
    path = plan(recipe, "out")
    assert len(list((tmp_path / "out/.chatfmt/spool").iterdir())) == 1
    do(path, 2, 1, of=2)
    assert commit(Path("out"), SERIAL).shards == 4
    assert tree(tmp_path / "out") == {name.removeprefix("out/"): data for name, data in whole(recipe, "out").items()}
    assert not (tmp_path / "out/.chatfmt/spool").exists()


@pytest.fixture
def planned(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}")
    write_jsonl(tmp_path / "in.jsonl", ROWS[:12])
    yield plan(recipe_of("in.jsonl", template="t.jinja", rows_per_shard=2), "out", copy=tmp_path / "copy.json")


def edited(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"first_row": 2', b'"first_row": 3', 1))


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (lambda path: edited(path), InputError, "is not a plan of this version of chatfmt, or it was changed"),
        (lambda path: path.write_text("[]"), InputError, "is not a plan of this version of chatfmt, or it was changed"),
        (
            lambda path: Path("t.jinja").write_text("{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %}"),
            OutputError,
            "the template `t.jinja` changed since",
        ),
        (lambda path: write_jsonl(Path("in.jsonl"), ROWS[1:12]), OutputError, "`in.jsonl` changed since"),
        (
            lambda path: write_jsonl(Path("in.jsonl"), [ROWS[1], ROWS[0], *ROWS[2:12]]),
            OutputError,
            "`in.jsonl` changed since",
        ),
        (lambda path: shutil.rmtree("out"), OutputError, "is not waiting for this plan"),
    ],
)
def test_a_plan_that_no_longer_holds_is_refused(planned, harm, error, message):
    copy = Path("copy.json")
    assert copy.read_bytes() == planned.read_bytes()
    harm(copy)
    with pytest.raises(error, match=message.replace("(", r"\(")) as caught:
        run_part(copy, 1, 2, SERIAL)
    assert caught.value.hint == "make a new plan with `chatfmt plan … --overwrite`"


def places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Every place inside a JSON value."""
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(inner, (*path, key))


def signed_again(path: Path, data: dict[str, object]) -> None:
    """Write what a plan says with the hash that it then has."""
    path.write_text(json.dumps({**data, "sha256": manifest.fingerprint(data)}))


WRONG: tuple[object, ...] = (None, {}, [], "x", 5, [[]], {"a": {}})


def test_a_plan_with_a_wrong_value_anywhere_is_an_error_in_words(planned):
    data = json.loads(planned.read_bytes())
    del data["sha256"]
    found = [place for place in places(data) if place[0] not in ("recipe", "notes")]
    assert len(found) > 60
    for number, place in enumerate(found):
        changed = json.loads(json.dumps(data))
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        if number % 2:
            del inner[place[-1]]
        else:
            inner[place[-1]] = WRONG[number // 2 % len(WRONG)]
        signed_again(Path("copy.json"), changed)
        with suppress(ChatfmtError):  # what changes nothing is no error
            read_plan(Path("copy.json"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("folder", None), ("schema", {}), ("schema", "x"), ("schema", "AAAA"), ("sources", [1]),
        ("sources", [{"files": "x"}]), ("names", []), ("names", 5), ("notes", None), ("sources", []), ("target", "out"),
        ("recipe", {}), ("recipe", []), ("fingerprint", 5), ("version", 2),
    ],
)  # fmt: skip
def test_a_plan_of_wrong_types_is_one_line(planned, key, value):
    data = json.loads(planned.read_bytes())
    del data["sha256"]
    signed_again(Path("copy.json"), {**data, key: value})
    run = run_cli("run", "copy.json", "--task", "1/2")
    assert (run.returncode, run.stderr.decode()) == (
        3, "error: `copy.json` is not a plan of this version of chatfmt, or it was changed\n"
        "hint: make a new plan with `chatfmt plan … --overwrite`\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "theirs", "text", "hint"),
    [
        (
            "chatfmt", f"{chatfmt.__version__}+00000000",
            f"other files of chatfmt: {chatfmt.__version__}+00000000, and this is {{mine}}",
            "install the same files of chatfmt",
        ),
        (
            "chatfmt", "0.0.9+00000000", f"chatfmt 0.0.9, and this is chatfmt {chatfmt.__version__}",
            'pip install "chatfmt==0.0.9"',
        ),
        ("Python", "3.10", "Python 3.10, and this is Python {mine}", "use Python 3.10"),
        (
            "pyarrow", "1.0", "another version of a package: pyarrow 1.0, and this is {mine}",
            'pip install "pyarrow==1.0"',
        ),
    ],
)  # fmt: skip
def test_a_plan_of_a_machine_with_other_versions_is_refused(planned, name, theirs, text, hint):
    data = json.loads(planned.read_bytes())
    del data["sha256"]
    mine = data["versions"][name]
    signed_again(Path("copy.json"), {**data, "versions": {**data["versions"], name: theirs}})
    run = run_cli("run", "copy.json", "--task", "1/2")
    assert (run.returncode, run.stderr.decode()) == (
        5, f"error: `copy.json` was written with {text.format(mine=mine)}\n"
        f"hint: {hint} here, or make a new plan with `chatfmt plan … --overwrite`\n",
    )  # fmt: skip


def test_a_plan_has_its_template_and_finds_its_tokenizer_from_another_folder(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "in.jsonl", ROWS[:12])
    Path("t.jinja").write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}")
    Path("elsewhere").mkdir()
    for folder, word in ((".", "user"), ("elsewhere", "other")):
        write_tokenizer(Path(folder, "tokens.json"), **{word: 7})
    keys = {"template": "t.jinja", "tokenizer": "tokens.json", "to": "tokens", "rows_per_shard": 6}
    path = plan(recipe_of("in.jsonl", keep=(), **keys), "out", copy=Path("copy.json")).absolute()
    expected = whole(recipe_of("in.jsonl", keep=(), **keys), "out")
    Path("t.jinja").unlink()
    monkeypatch.chdir("elsewhere")
    do(path, 1, 2, of=2)
    assert commit(path, SERIAL).rows == 12
    data = {name: text for name, text in expected.items() if name.startswith("out/data")}
    assert len(data) == 2 and data.items() <= tree(tmp_path).items()
    write_tokenizer(tmp_path / "tokens.json", user=9)
    with pytest.raises(OutputError, match="the tokenizer or a plug-in changed since"):
        read_plan(Path("../copy.json"))


def rewritten(path: Path) -> None:
    """Change the content of a file, but not its size and the time when it was last changed."""
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"id": 5,', b'"id": 7,'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.fixture
def changing(monkeypatch):
    """A list of functions, each called after a task of a run with the executor `changing`."""
    after_task: list[Callable[[], None]] = []

    def run(fn, tasks, workers, on_position=None):
        for task in tasks:
            yield fn(task)
            if after_task:
                after_task.pop()()

    monkeypatch.setitem(EXECUTORS, "changing", Executor(run, "changing"))
    return after_task


def test_a_file_that_looks_the_same_may_have_changed(planned):
    before = Path("in.jsonl").read_bytes()
    rewritten(Path("in.jsonl"))
    assert Path("in.jsonl").read_bytes() != before
    with pytest.raises(OutputError, match=r"`in\.jsonl` changed since"):
        run_part(planned, 1, 2, SERIAL)
    assert list(Path("out/.chatfmt/receipts").iterdir()) == []


def test_a_file_that_changes_between_tasks_is_noticed_by_the_next(planned, changing):
    changing.append(lambda: rewritten(Path("in.jsonl")))
    with pytest.raises(InputError, match=r"in\.jsonl: another file than the one that was planned"):
        run_part(planned, 1, 1, Run(executor="changing"))
    assert len(list(Path("out/.chatfmt/receipts").iterdir())) == 1


@pytest.mark.parametrize("source", ["in", "in/*.jsonl", "{}/in", "../{name}/in"])
def test_a_file_that_is_added_to_the_source_is_named(tmp_path, source, monkeypatch):
    Path("in").mkdir()
    write_jsonl(Path("in/a.jsonl"), ROWS[:12])
    path = plan(recipe_of(source.format(tmp_path, name=tmp_path.name), rows_per_shard=4), "out")
    do(path, 1, of=3)
    write_jsonl(Path("in/b.jsonl"), ROWS[:12])
    write_jsonl(Path("in/_not_data.jsonl"), ROWS[:12])
    path = path.absolute()
    monkeypatch.chdir("in")
    with pytest.raises(OutputError) as caught:
        do(path, 2, of=3)
    assert caught.value.message.startswith("`") and "b.jsonl` was added to `" in caught.value.message
    assert caught.value.hint == "make a new plan with `chatfmt plan … --overwrite`"
    Path("b.jsonl").unlink()
    do(path, 2, 3, of=3)
    assert commit(tmp_path / "out", SERIAL).rows == 12


@pytest.mark.parametrize("versions", [True, False])
def test_a_remote_file_that_changes_between_tasks(tmp_path, versions, changing):
    pytest.importorskip("aiohttp")
    (tmp_path / "web").mkdir()
    served = Path(write_jsonl(tmp_path / "web/in.jsonl", ROWS[:12]))
    keys = {"rows_per_shard": 2, "keep": ("id",)}
    expected = whole(recipe_of(str(served), **keys), "out.jsonl")
    with FileServer(tmp_path / "web", versions=versions) as server:
        path = plan(recipe_of(f"{server.url}/in.jsonl", **keys), "out.jsonl")
        changing.append(lambda: rewritten(served))
        if versions:
            with pytest.raises(InputError, match=r"in\.jsonl: another file than the one that was planned"):
                run_part(path, 1, 1, Run(executor="changing"))
        else:  # its rows are those that were compared with the plan
            run_part(path, 1, 1, Run(executor="changing"))
            write_jsonl(served, ROWS[:12])
            commit(path, SERIAL)
            assert tree(Path())["out.jsonl"] == expected["out.jsonl"]
        assert changing == []


def test_a_file_that_was_only_touched_is_the_same(planned):
    os.utime("in.jsonl", (1, 1))
    assert run_part(planned, 1, 2, SERIAL).shards == 3


def test_parts_run_in_parallel_but_not_during_a_commit(planned):
    with pytest.raises(UsageError) as caught:
        run_part(planned, 0, 2, SERIAL)
    assert (str(caught.value), caught.value.hint) == ("there is no part 0 of 2", "parts are 1/2 to 2/2")
    state = Path("out/.chatfmt")
    shared = writers.Lock(state, shared=True)
    do(planned, 1, of=1)
    with pytest.raises(OutputError, match="another run is writing"):
        commit(Path("out"), SERIAL)
    shared.release()
    alone = writers.Lock(state)
    with pytest.raises(OutputError, match="another run is writing"):
        do(planned, 1, of=1)
    alone.release()
    commit(Path("out"), SERIAL)


def test_a_plan_does_not_replace_what_is_there(planned):
    recipe = recipe_of("in.jsonl", template="t.jinja", rows_per_shard=2)
    with pytest.raises(OutputError, match="interrupted"):
        plan(recipe, "out")
    do(planned, 1, of=2)
    plan(recipe, "out", resume=True)
    assert len(list(Path("out/.chatfmt/receipts").iterdir())) == 3
    plan(recipe, "out", overwrite=True)
    assert len(list(Path("out/.chatfmt/receipts").iterdir())) == 0
    with pytest.raises(UsageError, match="cannot write to `-`"):
        plan(recipe, "-")
    with pytest.raises(ChatfmtError, match="there is no plan in `nowhere`"):
        commit(Path("nowhere"), SERIAL)


def test_the_budget_is_that_of_all_parts(tmp_path):
    rows = [*ROWS[:20], *({"messages": [{"role": "robot", "content": "x"}]} for _ in range(4))]
    recipe = recipe_of(write_jsonl(tmp_path / "in.jsonl", rows), rows_per_shard=5, on_error="skip", keep=())
    path = plan(recipe, "out")
    do(path, 1, 2, of=2)
    with pytest.raises(DataProblem, match="4 of 24 rows were rejected"):
        commit(Path("out"), Run(executor="serial", rejects=Path("bad.jsonl")))
    assert len(Path("bad.jsonl").read_text().splitlines()) == 4
    plan(replace(recipe, max_bad="4"), "out", resume=True)
    assert commit(Path("out"), SERIAL).rejected == 4


def test_the_command_line(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", ROWS[:30])
    given = ["in.jsonl", "-t", "chatml", "-o", "out", "--rows-per-shard", "10"]
    made = run_cli("plan", *given, "--json", cwd=tmp_path)
    assert {key: json.loads(made.stdout)[key] for key in ("plan", "shards")} == {
        "plan": "out/.chatfmt/plan.json", "shards": 3,
    }  # fmt: skip
    env = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "1"}
    first = run_cli("run", "out", cwd=tmp_path, env={**env, "SLURM_ARRAY_TASK_COUNT": "2"})
    assert first.stderr.decode() == "part 1 of 2: 2 shards, 20 rows\n"
    early = run_cli("commit", "out", cwd=tmp_path)
    assert (early.returncode, early.stderr.decode().splitlines()) == (5, [
        "error: 1 of 3 shards is missing: `data/train-00001-of-00003.parquet`",
        f"hint: chatfmt run {tmp_path}/out/.chatfmt/plan.json --task 2/3".replace(f"{tmp_path}/", ""),
    ])  # fmt: skip
    second = run_cli("run", "out/.chatfmt/plan.json", "--task", "2/2", "--json", cwd=tmp_path)
    assert (json.loads(second.stdout)["part"], json.loads(second.stdout)["rows"]) == ([2, 2], 10)
    done = run_cli("commit", "out", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr.startswith(b"wrote 30 rows to ")
    assert manifest.verify(tmp_path / "out") == []


def test_run_keys_of_a_recipe_are_not_ignored(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", ROWS[:30])
    text = "source: in.jsonl\ntemplate: chatml\nout: out\nrejects: bad.jsonl\n"
    (tmp_path / "recipe.yaml").write_text(text)
    made = run_cli("plan", "recipe.yaml", cwd=tmp_path)
    assert made.stderr.decode().splitlines()[-3:] == [
        "note: to write the rejects: chatfmt commit out --rejects bad.jsonl",
        "planned 1 shard in `out/.chatfmt/plan.json`",
        "run them with: chatfmt run out --task 1/1",
    ]
    made = run_cli("plan", "recipe.yaml", "--rows-per-shard", "10", "--overwrite", cwd=tmp_path)
    last = "run them with: chatfmt run out --task 1/3, and so on to 3/3"
    assert made.stderr.decode().splitlines()[-1] == last
    cut = run_cli("plan", "recipe.yaml", "--shards", "4", "--overwrite", cwd=tmp_path)
    assert cut.stderr.decode().splitlines()[-2:] == [
        "planned 1 task in `out/.chatfmt/plan.json`; the commit cuts the rows into 4 shards",
        "run them with: chatfmt run out --task 1/1",
    ]
    (tmp_path / "recipe.yaml").write_text(text + "dry_run: true\n")
    refused = run_cli("plan", "recipe.yaml", "--overwrite", cwd=tmp_path)
    assert (refused.returncode, refused.stderr.decode().splitlines()) == (2, [
        "error: the recipe sets `dry_run`, which writes no plan",
        "hint: use `chatfmt convert` to show it",
    ])  # fmt: skip


def test_after_the_commit_run_does_nothing(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", ROWS[:30])
    for out, rows in (("out", ": 30 rows"), ("out.jsonl", "")):
        run_cli("plan", "in.jsonl", "-t", "chatml", "-o", out, "--plan", f"{out}-plan.json")
        run_cli("run", out)
        assert run_cli("commit", out).returncode == 0
        before = tree(tmp_path)
        for given in (out, f"{out}-plan.json"):
            done = run_cli("run", given, "--task", "1/2")
            assert (done.returncode, done.stderr.decode()) == (0, f"`{out}` is already complete{rows}\n".replace(
                f"`{out}`", f"`{out if given == out else tmp_path / out}`"
            ))  # fmt: skip
        assert tree(tmp_path) == before
    assert len(before) == 7
