"""Whole conversions, process by process: chatfmt against what a user would run instead, with medians and ratios.

    python tests/bench/convert.py DATA … [--make 100000] [--kinds parquet-parquet,…] [--templates chatml,FILE,…]
                                         [--subjects chatfmt,copy,polars,…] [--repeat 3] [--workers 2,1]
                                         [--json] [--save FILE]

DATA is a folder that holds `parquet/` and `jsonl/`, each with files of rows that have `messages`; `--make N` fills it
first, from `shared/bench/make_smoltalk_like.py` (CHATFMT_SHARED). Several folders, numbers of workers and templates
show how the time grows with the rows, what workers save, and what a template file costs. Subjects, in turns so that a
busy machine is fair; on one that others use too, compare the CPU seconds (`cpu`, of all processes of a run), for those
hardly change:

    chatfmt       chatfmt convert SOURCE -t TEMPLATE -o OUT --workers N
    transformers  datasets.load_dataset, map(apply_chat_template, num_proc=N), to_parquet or to_json
    jinja         one process: read, a loop over the compiled template, write
    polars        a query for ChatML alone, without any check: `list.eval`, `concat_str`, streamed (if it is installed)
    duckdb        the same in SQL (if it is installed)
    copy          the bare copy: read the input and write the same rows with pyarrow, zstd, N processes, no rendering,
                  a batch at a time (lines are copied as bytes; parquet-jsonl has no copy)
    table         the same as most people write it, `write_table(read_table(…))` (parquet-parquet only)

Before times are taken, the texts that chatfmt, jinja, polars and duckdb write are compared; JSON Lines byte by byte.
`--save` puts the results into FILE, such as the `results.json` beside this file, whose table the guide on speed shows.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KINDS = ("parquet-parquet", "jsonl-jsonl", "parquet-jsonl")
TEMPLATES = ("chatml", "llama-3.1", "qwen3", "gpt-oss")
SUBJECTS = ("chatfmt", "copy", "table", "polars", "duckdb", "jinja", "transformers")
QUERIES = ("polars", "duckdb")
"""Subjects that render ChatML only, with a library that need not be installed."""
SAME_TEXT = ("chatfmt", "jinja", *QUERIES)
"""Subjects whose output is compared."""
PR_SET_CHILD_SUBREAPER = 36
Result = dict[str, Any]
Measured = dict[str, float]


def make_data(folder: Path, rows: int) -> None:
    """Fill `folder` with the same rows as Parquet and as JSON Lines, four files each."""
    shared = Path(os.environ.get("CHATFMT_SHARED", ROOT.parent / "shared"))
    maker = shared / "bench" / "make_smoltalk_like.py"
    parquet, lines = folder / "parquet", folder / "jsonl"
    command = [sys.executable, str(maker), "--rows", str(rows), "--shards", "4", "--out", str(parquet)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines.mkdir(parents=True, exist_ok=True)
    for file in sorted(parquet.glob("*.parquet")):
        with (lines / f"{file.stem}.jsonl").open("w", encoding="utf-8") as out:
            out.writelines(json.dumps({"messages": row}, ensure_ascii=False) + "\n" for row in read_messages(file))


def read_messages(file: Path) -> Iterator[list[dict[str, str]]]:
    """The conversations of one file."""
    import pyarrow.parquet as pq

    if file.suffix == ".parquet":
        for batch in pq.ParquetFile(file).iter_batches(1000, columns=["messages"]):
            yield from batch.column(0).to_pylist()
    else:
        with file.open(encoding="utf-8") as source:
            yield from (json.loads(line)["messages"] for line in source)


def inputs_of(folder: Path, kind: str) -> list[Path]:
    source = kind.partition("-")[0]
    return sorted((folder / source).glob(f"*.{source}"))


def run_chatfmt(folder: Path, kind: str, template: str, out: Path, workers: int) -> list[str]:
    """The command that a user would type."""
    source, _, target = kind.partition("-")
    command = [sys.executable, "-m", "chatfmt", "convert", str(folder / source), "-t", template, "-o", str(out)]
    return [*command, "--format", target, "--workers", str(workers), "--quiet"]


def run_copy(folder: Path, kind: str, out: Path, workers: int, copy: Callable[[tuple[Path, Path]], None]) -> None:
    files = [(file, out / file.name) for file in inputs_of(folder, kind)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(copy, files)


def copy_file(pair: tuple[Path, Path]) -> None:
    import pyarrow.parquet as pq

    source, target = pair
    if source.suffix != ".parquet":
        shutil.copyfile(source, target)
        return
    file = pq.ParquetFile(source)
    with pq.ParquetWriter(target, file.schema_arrow, compression="zstd") as writer:
        for batch in file.iter_batches(1000):
            writer.write_batch(batch)


def copy_table(pair: tuple[Path, Path]) -> None:
    import pyarrow.parquet as pq

    source, target = pair
    pq.write_table(pq.read_table(source), target, compression="zstd")


COPIES = {"copy": copy_file, "table": copy_table}


def run_jinja(folder: Path, kind: str, template: str, out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from chatfmt.render.jinja.environment import compile_template
    from chatfmt.render.jinja.inputs import context
    from chatfmt.render.template.chat_template import ChatTemplate
    from chatfmt.render.types import UNDATED

    chosen = ChatTemplate.load(template)
    compiled, values = compile_template(chosen.text), context(chosen.special_tokens, UNDATED)
    extra = {"tools": None, "documents": None, "add_generation_prompt": False, **values}
    for file in inputs_of(folder, kind):
        texts = [compiled.render(messages=messages, **extra) for messages in read_messages(file)]
        if kind.endswith("-parquet"):
            pq.write_table(pa.table({"text": texts}), out / f"{file.stem}.parquet", compression="zstd")
        else:
            encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
            lines = (encode({"text": text}) + "\n" for text in texts)
            with (out / f"{file.stem}.jsonl").open("w", encoding="utf-8") as sink:
                sink.writelines(lines)


def run_polars(folder: Path, kind: str, out: Path) -> None:
    import polars as pl

    turn = pl.element().struct
    parts = [pl.lit("<|im_start|>"), turn.field("role"), pl.lit("\n"), turn.field("content"), pl.lit("<|im_end|>\n")]
    text = pl.col("messages").list.eval(pl.concat_str(parts)).list.join("").alias("text")
    files = inputs_of(folder, kind)
    rows = pl.scan_parquet(files) if kind.startswith("parquet") else pl.scan_ndjson(files)
    if kind.endswith("-parquet"):
        rows.select(text).sink_parquet(out / "out.parquet")
    else:
        rows.select(text).sink_ndjson(out / "out.jsonl")


def run_duckdb(folder: Path, kind: str, out: Path) -> None:
    import duckdb

    files = [str(file) for file in inputs_of(folder, kind)]
    types = "columns = {messages: 'STRUCT(role VARCHAR, content VARCHAR)[]'}, format = 'newline_delimited'"
    rows = f"read_parquet({files})" if kind.startswith("parquet") else f"read_json({files}, {types})"
    turn = "'<|im_start|>' || turn.role || chr(10) || turn.content || '<|im_end|>' || chr(10)"
    text = f"array_to_string(list_transform(messages, lambda turn: {turn}), '')"
    target = kind.rpartition("-")[2]
    options = "FORMAT parquet, COMPRESSION zstd" if target == "parquet" else "FORMAT json"
    duckdb.sql(f"COPY (SELECT {text} AS text FROM {rows}) TO '{out}/out.{target}' ({options})")


def run_transformers(folder: Path, kind: str, template: str, out: Path, workers: int) -> None:
    import datasets
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from chatfmt.render.template.chat_template import ChatTemplate

    chosen = ChatTemplate.load(template)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>")))
    for name, token in chosen.special_tokens.items():
        tokenizer.add_special_tokens({name: token})
    tokenizer.chat_template = chosen.text
    files = [str(file) for file in inputs_of(folder, kind)]
    builder = "parquet" if kind.startswith("parquet") else "json"
    data = datasets.load_dataset(builder, data_files=files, split="train", cache_dir=str(out / "cache"))
    render = lambda row: {"text": tokenizer.apply_chat_template(row["messages"], tokenize=False)}  # noqa: E731
    data = data.map(render, num_proc=workers, remove_columns=data.column_names)
    if kind.endswith("-parquet"):
        data.to_parquet(str(out / "out.parquet"))
    else:
        data.to_json(str(out / "out.jsonl"), force_ascii=False)


def command_of(subject: str, given: argparse.Namespace, kind: str, template: str, out: Path) -> list[str]:
    if subject == "chatfmt":
        return run_chatfmt(given.data, kind, template, out / "out", given.workers)
    own = [sys.executable, __file__, str(given.data), "--run", subject, "--kinds", kind, "--templates", template]
    return [*own, "--out", str(out), "--workers", str(given.workers)]


def measure_in_turns(
    subjects: list[str], repeat: int, command: Callable[[str, Path], list[str]]
) -> dict[str, Measured]:
    """The medians of each subject and its most memory; `command` returns what to run in a folder."""
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in subjects}
    for _ in range(repeat):
        for name in subjects:
            with tempfile.TemporaryDirectory() as scratch:
                runs[name].append(timed(command(name, Path(scratch))))
    return {
        name: {
            "seconds": round(statistics.median(time for time, _, _ in found), 2),
            "cpu_seconds": round(statistics.median(used for _, used, _ in found), 2),
            "megabytes": round(max(peak for _, _, peak in found)),
        }
        for name, found in runs.items()
    }


def timed(command: list[str]) -> tuple[float, float, float]:
    """Seconds of a whole process and of all its CPUs, and the memory of the largest process in it, in megabytes."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            said.seek(0)
            raise SystemExit(f"failed: {' '.join(command)}\n{said.read().decode()}")
    seconds, usages = time.perf_counter() - start, [usage]
    with contextlib.suppress(ChildProcessError):  # until none is left: a tokenizer's process outlives its parent
        while True:
            usages.append(os.wait4(-1, 0)[2])
    cpu = sum(each.ru_utime + each.ru_stime for each in usages)
    return seconds, cpu, max(each.ru_maxrss for each in usages) / 1024


def subjects_of(given: argparse.Namespace, kind: str, template: str) -> list[str]:
    """The subjects to measure that can do this conversion."""
    none = {"parquet-jsonl": ("copy", "table"), "jsonl-jsonl": ("table",)}.get(kind, ())
    absent = [name for name in QUERIES if template != "chatml" or importlib.util.find_spec(name) is None]
    return [name for name in given.subjects.split(",") if name not in none and name not in absent]


def check_same_text(given: argparse.Namespace, kind: str, template: str, subjects: list[str]) -> None:
    """Exit with an error if subjects do not write the same texts, of JSON Lines the same bytes."""
    found = {}
    for name in (name for name in subjects if name in SAME_TEXT):
        with tempfile.TemporaryDirectory() as scratch:
            timed(command_of(name, given, kind, template, Path(scratch)))
            command = command_of("digest", given, kind, template, Path(scratch))  # memory used here counts for subjects
            found[name] = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    if len(set(found.values())) > 1:
        raise SystemExit(f"{kind} {template}: the outputs differ: {found}")


def digest_of(folder: Path, target: str) -> str:
    """The SHA-256 of the lines, or of the texts, in all files of a folder, in order."""
    import pyarrow.parquet as pq

    digest = hashlib.sha256()
    for file in sorted(folder.rglob(f"*.{target}")):
        if target == "jsonl":
            digest.update(file.read_bytes())
            continue
        for batch in pq.ParquetFile(file).iter_batches(1000, columns=["text"]):
            for text in batch.column(0).to_pylist():
                digest.update(text.encode() + b"\xff")
    return digest.hexdigest()


def measure(given: argparse.Namespace, kind: str, template: str) -> Result:
    """Medians of all subjects for one kind and template, and how they compare with chatfmt."""
    subjects = subjects_of(given, kind, template)
    check_same_text(given, kind, template, subjects)
    found = measure_in_turns(subjects, given.repeat, lambda name, out: command_of(name, given, kind, template, out))
    base = found["chatfmt"]["seconds"] if "chatfmt" in found else 0
    for each in found.values() if base else ():
        each["times_chatfmt"] = round(each["seconds"] / base, 2)
    rows = sum(count_rows(file) for file in inputs_of(given.data, kind))
    return {"kind": kind, "template": template, "rows": rows, "workers": given.workers, "subjects": found}


def count_rows(file: Path) -> int:
    import pyarrow.parquet as pq

    if file.suffix == ".parquet":
        return int(pq.ParquetFile(file).metadata.num_rows)
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def save(result: Result, path: Path) -> None:
    """Put the result into the file, in the place of an older one of the same kind, template and rows."""
    older = json.loads(path.read_text()) if path.exists() else []
    found = {place_of(each): each for each in (*older, result)}
    path.write_text(json.dumps([found[place] for place in sorted(found)], indent=1) + "\n")


def place_of(result: Result) -> tuple[int, int, int, str]:
    template = result["template"]
    order = TEMPLATES.index(template) if template in TEMPLATES else len(TEMPLATES)
    return result["rows"], KINDS.index(result["kind"]), order, template


def table(results: list[Result]) -> str:
    """The results in Markdown: seconds of chatfmt, and how many times as long each other subject took."""
    names = {
        "copy": "bare copy",
        "table": "`write_table(read_table)`",
        "polars": "Polars query",
        "duckdb": "DuckDB query",
        "jinja": "Jinja in a loop",
        "transformers": "datasets + transformers",
    }
    measured = {name for result in results for name in result["subjects"]}
    names = {name: title for name, title in names.items() if name in measured}
    lines = [
        "| rows | from → to | template | chatfmt | " + " | ".join(names.values()) + " | memory |",
        "|---:|---|---|---:|" + "---:|" * len(names) + "---:|",
    ]
    for result in results:
        found = result["subjects"]
        times = [f"{found[name]['times_chatfmt']:.2f}×" if name in found else "" for name in names]
        kind = result["kind"].replace("parquet", "Parquet").replace("jsonl", "JSON Lines").replace("-", " → ")
        cells = [f"{result['rows']:,}", kind, result["template"], f"{found['chatfmt']['seconds']:.1f} s", *times]
        lines.append("| " + " | ".join([*cells, f"{found['chatfmt']['megabytes']} MB"]) + " |")
    return "\n".join(lines) + "\n"


def show(results: list[Result], subjects: list[str]) -> None:
    print(f"{'kind':17}{'template':14}{'rows':>9}{'workers':>9}" + "".join(f"{name:>38}" for name in subjects))
    for result in results:
        cells = "".join(f"{cell(result['subjects'].get(name)):>38}" for name in subjects)
        of = f"{result['kind']:17}{Path(result['template']).name:14}{result['rows']:>9,}{result['workers']:>9}"
        print(f"{of}{cells}")


def cell(found: Measured | None) -> str:
    if found is None:
        return "-"
    ratio = found.get("times_chatfmt", 0)
    return f"{found['seconds']:7.2f} s {found['cpu_seconds']:7.2f} cpu {ratio:6.2f}× {found['megabytes']:5.0f} MB"


def run_one(given: argparse.Namespace) -> None:
    kind, template, out = given.kinds, given.templates, given.out
    if given.run in COPIES:
        run_copy(given.data, kind, out, given.workers, COPIES[given.run])
    elif given.run == "jinja":
        run_jinja(given.data, kind, template, out)
    elif given.run in QUERIES:
        {"polars": run_polars, "duckdb": run_duckdb}[given.run](given.data, kind, out)
    elif given.run == "digest":
        print(digest_of(out, kind.rpartition("-")[2]))
    else:
        run_transformers(given.data, kind, template, out, given.workers)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--make", type=int, metavar="ROWS")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--templates", default=",".join(TEMPLATES))
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", default=str(os.cpu_count() or 1))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", type=Path, metavar="FILE")
    parser.add_argument("--run", choices=(*SUBJECTS[1:], "digest"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    cases = [
        argparse.Namespace(**{**vars(given), "data": data, "workers": int(workers)})
        for data in given.data
        for workers in given.workers.split(",")
    ]
    if given.run:
        run_one(*cases)
        return
    if given.make:
        make_data(*given.data, given.make)
    pairs = [(kind, template) for kind in given.kinds.split(",") for template in given.templates.split(",")]
    results = []
    for case, (kind, template) in ((case, pair) for pair in pairs for case in cases):
        results.append(measure(case, kind, template))
        if given.save:
            save(results[-1], given.save)  # what was measured is kept, whatever happens to the rest
    if given.json:
        print(json.dumps(results, indent=1))
    else:
        show(results, given.subjects.split(","))


if __name__ == "__main__":
    main()
