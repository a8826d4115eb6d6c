"""Token ids and labels of a whole dataset: chatfmt against the tokenizer library alone, and against datasets.map.

    python tests/bench/tokens.py DATA [--make 20000] [--vocabulary 32000] [--repeat 3] [--workers N] [--json]

DATA is a folder that holds `parquet/`, `text/` (the same rows rendered) and `tokenizer.json`, a byte-level BPE that is
trained on them; `--make N` fills it first. Subjects, in turns, each a process of its own on the same cores:

    chatfmt       chatfmt convert DATA/parquet -t chatml --to tokens --tokenizer …: render, tokenize, mask, write
    tokenizers    read DATA/text and call `encode_batch_fast` on it, nothing else
    transformers  datasets.load_dataset, map(apply_chat_template, tokenize=True, num_proc=N), to_parquet: ids alone

On a machine that others use too, compare the CPU seconds (`cpu`, of all processes of a run).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from convert import make_data, read_messages, timed

SUBJECTS = ("chatfmt", "tokenizers", "transformers")
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def make(folder: Path, rows: int, vocabulary: int) -> None:
    """Fill `folder` with rows, their texts, and a tokenizer trained on a part of them."""
    make_data(folder, rows)
    command = [sys.executable, "-m", "chatfmt", "convert", str(folder / "parquet"), "-t", "chatml", "--overwrite", "-q"]
    subprocess.run([*command, "-o", str(folder / "text")], check=True)
    train(folder, vocabulary)


def train(folder: Path, vocabulary: int) -> None:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split, spell = pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, spell])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], show_progress=False,
    )  # fmt: skip
    first = min((folder / "parquet").glob("*.parquet"))
    tokenizer.train_from_iterator((turn["content"] for row in read_messages(first) for turn in row), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def run_tokenizers(folder: Path) -> None:
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for file in sorted((folder / "text" / "data").glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(100, columns=["text"]):
            tokenizer.encode_batch_fast(batch.column(0).to_pylist(), add_special_tokens=False)


def run_transformers(folder: Path, out: Path, workers: int) -> None:
    import datasets
    from transformers import PreTrainedTokenizerFast

    from chatfmt.render.template.chat_template import ChatTemplate

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.chat_template = ChatTemplate.load("chatml").text
    files = [str(file) for file in sorted((folder / "parquet").glob("*.parquet"))]
    data = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(out / "cache"))

    def encode(rows: dict[str, list[Any]]) -> dict[str, Any]:
        return dict(tokenizer.apply_chat_template(rows["messages"], tokenize=True, return_dict=True))

    data.map(encode, batched=True, num_proc=workers, remove_columns=data.column_names).to_parquet(
        str(out / "out.parquet")
    )


def command_of(subject: str, given: argparse.Namespace, out: str) -> list[str]:
    if subject != "chatfmt":
        return [
            sys.executable,
            __file__,
            str(given.data),
            "--run",
            subject,
            "--out",
            out,
            "--workers",
            str(given.workers),
        ]
    command = [
        sys.executable,
        "-m",
        "chatfmt",
        "convert",
        str(given.data / "parquet"),
        "-t",
        "chatml",
        "--to",
        "tokens",
    ]
    tokenizer = str(given.data / "tokenizer.json")
    return [*command, "--tokenizer", tokenizer, "-o", f"{out}/out", "--workers", str(given.workers), "--quiet"]


def measure(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians of all subjects, and their CPU seconds as multiples of those of `tokenizers`."""
    subjects = given.subjects.split(",")
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in subjects}
    for _ in range(given.repeat):
        for name in subjects:
            with tempfile.TemporaryDirectory() as scratch:
                runs[name].append(timed(command_of(name, given, scratch)))
    found = {
        name: {
            "seconds": round(statistics.median(seconds for seconds, _, _ in times), 2),
            "cpu_seconds": round(statistics.median(cpu for _, cpu, _ in times), 2),
            "megabytes": round(max(peak for _, _, peak in times)),
        }
        for name, times in runs.items()
    }
    base = found.get("tokenizers", {}).get("cpu_seconds")
    return {name: {**row, "times_tokenizers": round(row["cpu_seconds"] / base, 2)} if base else row
            for name, row in found.items()}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--make", type=int, metavar="ROWS")
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--subjects", default=",".join(SUBJECTS))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", choices=SUBJECTS[1:], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run_tokenizers(given.data) if given.run == "tokenizers" else run_transformers(
            given.data, given.out, given.workers
        )
        return
    if given.make:
        make(given.data, given.make, given.vocabulary)
    found = measure(given)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for name, row in found.items():
        print(f"{name:14}" + "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
