"""Every recipe in `configs/` is valid and converts a miniature of its dataset to the expected output.

Miniatures are in `tests/recipes/`: `NAME.jsonl` or `NAME.json` if the Hub has JSON; `NAME.parquet.jsonl` (rows that are
written to Parquet here) or `NAME.py` (a `TABLE` with its own types) if it has Parquet; `NAME@SUBSET…` is a subset with
other columns. Columns and nesting are those of the dataset, the text is our own. `NAME.expected.jsonl` is the complete
output; `commands.golden` has the output of each command of a recipe that renders nothing.
"""

from __future__ import annotations

import gzip
import json
import re
import runpy
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml

import chatfmt
from chatfmt import recipe as recipes
from chatfmt.cli import application
from chatfmt.cli.values import to_values

from .conftest import ROOT, from_lines, read_rows, run_cli, succeed
from .silent_losses import lost
from .stand_in_hub import StandInHub

FOLDER = Path(__file__).parent / "recipes"
SUFFIXES = (".parquet.jsonl", ".jsonl", ".json", ".py")
NAMES = tuple(name for name in recipes.names() if not recipes.reads_files(name))
"""Recipes of datasets; those of file formats are in `test_format_recipes`."""
ON_THE_HUB = ("name", "split", "revision", "data_dir", "data_files")
COMMANDS = [(name, command) for name in NAMES for command in recipes.load(name).values["about"]["commands"]]
GOLDEN = FOLDER / "commands.golden"
IDS = [f"{name}-{number}" for number, (name, _) in enumerate(COMMANDS)]


def miniatures() -> dict[str, Path]:
    """Return the miniatures by the name of their recipe, or by `NAME@SUBSET`."""
    found = {}
    for path in (path for path in FOLDER.iterdir() if path.is_file()):
        suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)
        if suffix and not path.name.endswith(".expected.jsonl"):
            found[path.name.removesuffix(suffix)] = path
    return found


MINIATURES = miniatures()


def write_source(name: str, folder: Path) -> Path:
    """Return the miniature as a file in the format that the Hub has."""
    path = MINIATURES[name]
    if path.name.endswith(".parquet.jsonl"):
        rows = read_rows(path)
        return write_parquet(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    if path.suffix == ".py":
        return write_parquet(runpy.run_path(str(path))["TABLE"], folder / f"{name}.parquet")
    return path


def write_parquet(table: pa.Table, path: Path) -> Path:
    """Write the table and return the path."""
    pq.write_table(table, path)
    return path


def build_recipe(name: str, source: Path, flags: dict[str, Any] | None = None) -> chatfmt.Recipe:
    """Return the recipe with `flags`, reading `source` instead of its dataset."""
    made, _, _ = recipes.build([recipes.load(name), recipes.Layer("flag", flags or {})])
    fields = {key: value for key, value in vars(made).items() if key not in {"about", *ON_THE_HUB}}
    return chatfmt.Recipe(**{**fields, "source": str(source), "max_bad": "100%"})


def convert(recipe: chatfmt.Recipe, out: Path) -> str:
    """Return what the recipe writes, as JSON Lines; the bytes of images, which JSON lacks, as hexadecimal digits."""
    return convert_and_sum_up(recipe, out)[0]


def convert_and_sum_up(recipe: chatfmt.Recipe, out: Path) -> tuple[str, chatfmt.Summary]:
    """Return what `convert` returns, and the summary."""
    if recipe.source[0].source.endswith("rlaif-v.parquet"):
        summary = chatfmt.convert(recipe, out := out.with_suffix(".parquet"), executor="serial")
        rows = pq.read_table(out).to_pylist()
        for turn in (turn for row in rows for turn in row.get("prompt") or [] if isinstance(turn, dict)):
            turn["content"] = [json.loads(part) for part in turn["content"]]
        return "".join(json.dumps(row, default=bytes.hex, ensure_ascii=False) + "\n" for row in rows), summary
    summary = chatfmt.convert(recipe, out, executor="serial")
    return out.read_text(encoding="utf-8"), summary


@cache
def convert_command() -> Any:
    """Return the click command of `chatfmt convert`."""
    return typer.main.get_command(application()).commands["convert"]


def flags_of(command: str) -> dict[str, Any]:
    """Parse the options of a `chatfmt convert …` command; an unknown flag fails."""
    program, verb, *arguments = shlex.split(command)
    assert (program, verb) == ("chatfmt", "convert")
    with convert_command().make_context("convert", arguments) as context:
        return {key: value for key, value in context.params.items() if value not in (None, [], ())}


def command_output(name: str, command: str, folder: Path) -> str:
    """Return what a command writes for the miniature of its dataset, or of its subset if there is one."""
    flags = flags_of(command)
    assert flags.pop("source") == (name,)
    assert flags.pop("out")
    subset = f"{name}@{flags.get('name')}"
    source = write_source(subset if subset in MINIATURES else name, folder)
    values = to_values({key: value for key, value in flags.items() if key not in ON_THE_HUB})
    return convert(build_recipe(name, source, values), folder / "out.jsonl")


def test_all_recipes_are_found():
    files = sorted((ROOT / "configs").iterdir(), key=lambda path: path.stem)
    assert [path.suffix for path in files] == [".yaml"] * len(files)
    assert [path.stem for path in files] == list(recipes.names())
    assert len(files) >= 90


def test_each_recipe_has_a_miniature_and_expected_output():
    assert {name.partition("@")[0] for name in MINIATURES} == set(NAMES)
    assert {name for name in MINIATURES if "@" not in name} == set(NAMES)
    assert {path.name.removesuffix(".expected.jsonl") for path in FOLDER.glob("*.expected.jsonl")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_describes_its_dataset(name):
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name)
    recipe, _, _ = recipes.build([recipes.load(name)])
    about = recipe.about
    assert about is not None
    for text in (about.title, about.licence, about.summary, about.verified):
        assert text
        assert text == text.strip()
    assert about.summary.endswith(".")  # a ` #` in plain YAML begins a comment and eats the rest
    assert about.splits
    assert len(set(about.splits)) == len(about.splits)
    assert 1 <= len(about.commands) <= 4
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", spec.source) for spec in recipe.source)


@pytest.mark.parametrize("name", NAMES)
def test_the_subset_and_split_of_a_recipe_are_among_those_it_names(name):
    recipe, _, _ = recipes.build([recipes.load(name)])
    about = recipe.about
    assert about is not None
    assert recipe.split == "all" or (recipe.split or "train") in about.splits
    assert recipe.name is None or any(subset.startswith(recipe.name) for subset in about.subsets)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_file_is_well_formed(name):
    text = (ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    keys = list(yaml.safe_load(text))
    assert keys == [key for key in recipes.KEYS if key in keys]
    assert max(map(len, text.splitlines())) <= 120
    assert re.search(r"\S\n\Z", text)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_converts_its_miniature(name, tmp_path):
    expected = (FOLDER / f"{name}.expected.jsonl").read_text(encoding="utf-8")
    assert expected.count("\n") >= 2
    source = write_source(name, tmp_path)
    recipe = build_recipe(name, source)
    output, summary = convert_and_sum_up(recipe, tmp_path / "out.jsonl")
    assert output == expected
    assert lost(source, output, summary, recipe) == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_conversion_adds_no_text(name):
    """Each text is in the miniature unchanged; if columns are joined or choices listed, each of its lines is."""
    source = list(strings(source_rows(name)))
    rows = read_rows(FOLDER / f"{name}.expected.jsonl")
    foreign = [text for text in contents(rows) if not any(text in own for own in source)]
    assert name in JOINED or not foreign
    lines = [re.sub(r"^[A-Z0-9]\. ", "", line) for text in foreign for line in text.split("\n")]
    assert [line for line in lines if not any(line in own for own in source)] == JOINED.get(name, [])


JOINED: dict[str, list[str]] = {
    "alpaca": [], "alpaca-cleaned": [], "arc": [], "codealpaca-20k": [], "dolly-15k": [],
    "hellaswag": [], "mmlu": ["B", "D"], "open-platypus": [], "sql-create-context": [], "squad": [],
    "squad-v2": ["The text does not say."], "toolace": [],
}  # fmt: skip
"""Recipes that join columns to one text or take the tools out of it, with the lines that they add."""


def source_rows(name: str) -> Any:
    """Return the rows of the miniature."""
    path = MINIATURES[name]
    if path.suffix == ".py":
        return runpy.run_path(str(path))["TABLE"].to_pylist()
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else from_lines(text)


def strings(value: Any) -> Iterator[str]:
    """Yield all texts in plain data, also those in JSON text."""
    if isinstance(value, str):
        yield value
        value = json.loads(value) if value.startswith("[{") and value.endswith("}]") else None
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(item)


def contents(value: Any) -> Iterator[str]:
    """Yield all texts under `content` in plain data."""
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        yield value["content"]
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from contents(item)


def test_the_golden_file_holds_the_commands_that_render_nothing():
    plain = [command for _, command in COMMANDS if "template" not in flags_of(command)]
    assert [json.loads(line)["command"] for line in GOLDEN.read_text(encoding="utf-8").splitlines()] == plain
    assert len(plain) >= 50


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=IDS)
def test_a_command_converts_the_miniature(name, command, tmp_path):
    text = command_output(name, command, tmp_path)
    assert text.count("\n") >= 1
    if "template" not in flags_of(command):
        assert from_lines(text) == golden()[command]


@cache
def golden() -> dict[str, Any]:
    """Return the rows of each command in the golden file."""
    lines = read_rows(GOLDEN)
    return {line["command"]: line["rows"] for line in lines}


CARD = "---\nlicense: mit\n{configs}---\n"
SMOLTALK2 = """configs:
- config_name: SFT
  data_files:
  - {split: OpenThoughts3_1.2M_think, path: SFT/OpenThoughts3_1.2M_think-*}
  - {split: lamps_no_think, path: SFT/lamps_no_think-*}
- config_name: Mid
  data_files:
  - {split: other, path: Mid/other-*}
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    dialogues = gzip.compress(MINIATURES["hh-rlhf"].read_bytes(), mtime=0)
    parts = {f"{part}/{split}.jsonl.gz": dialogues for part in ("harmless-base", "helpful-base")
             for split in ("train", "test")}  # fmt: skip
    rows = write_source("smoltalk2", folder).read_bytes()
    with StandInHub() as hub:
        hub.commit("datasets/Anthropic/hh-rlhf", {
            "README.md": CARD.format(configs="").encode(), "red-team-attempts/red_team_attempts.jsonl.gz": b"", **parts,
        })  # fmt: skip
        hub.commit("datasets/HuggingFaceTB/smoltalk2", {
            "README.md": CARD.format(configs=SMOLTALK2).encode(),
            "SFT/OpenThoughts3_1.2M_think-00000-of-00001.parquet": rows,
            "SFT/lamps_no_think-00000-of-00001.parquet": rows,
            "Mid/other-00000-of-00001.parquet": b"not read",
        })  # fmt: skip
        hub.commit("datasets/openai/webgpt_comparisons", {"webgpt_comparisons.py": b"raise SystemExit"})
        hub.commit(
            "datasets/openai/webgpt_comparisons",
            {"default/train/0000.parquet": write_source("webgpt-comparisons", folder).read_bytes()},
            ref="refs/convert/parquet",
        )
        yield hub


def run(hub: StandInHub, folder: Path, *arguments: str) -> str:
    """Return what `chatfmt convert` writes to stdout, with the stand-in as its Hub."""
    done = succeed(run_cli("convert", *arguments, "-q", cwd=folder, env=hub.env(folder / "home")))
    return done.stdout.decode()


def expected(name: str) -> str:
    return (FOLDER / f"{name}.expected.jsonl").read_text(encoding="utf-8")


def test_hh_rlhf_from_the_hub_reads_one_folder(hub, tmp_path):
    assert run(hub, tmp_path, "hh-rlhf", "--data-dir", "harmless-base", "--split", "test") == expected("hh-rlhf")
    assert [path for path in hub.fetched() if path.endswith(".gz")] == ["harmless-base/test.jsonl.gz"]


def test_smoltalk2_from_the_hub_has_all_parts_of_its_subset(hub, tmp_path):
    assert run(hub, tmp_path, "smoltalk2", "-o", "out/") == ""
    written = sorted((tmp_path / "out" / "data").iterdir())
    assert [path.name.partition("-0")[0] for path in written] == ["OpenThoughts3_1.2M_think", "lamps_no_think"]
    rows = from_lines(expected("smoltalk2"))
    messages = [[row["messages"] for row in pq.read_table(path).to_pylist()] for path in written]
    assert messages == [[row["messages"] for row in rows]] * 2


def test_webgpt_from_the_hub_reads_the_parquet_copy_and_runs_no_script(hub, tmp_path):
    assert run(hub, tmp_path, "webgpt-comparisons") == expected("webgpt-comparisons")
