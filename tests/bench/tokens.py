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
import subprocess
import sys
from pathlib import Path
from typing import Any

from convert import Measured, make_data, measure_in_turns, read_messages

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


def command_of(subject: str, given: argparse.Namespace, out: Path) -> list[str]:
    workers = ["--workers", str(given.workers)]
    if subject != "chatfmt":
        return [sys.executable, __file__, str(given.data), "--run", subject, "--out", str(out), *workers]
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
    return [*command, "--tokenizer", str(given.data / "tokenizer.json"), "-o", str(out / "out"), *workers, "--quiet"]


def measure(given: argparse.Namespace) -> dict[str, Measured]:
    """Medians of all subjects, and their CPU seconds as multiples of those of `tokenizers`."""
    found = measure_in_turns(given.subjects.split(","), given.repeat, lambda name, out: command_of(name, given, out))
    base = found["tokenizers"]["cpu_seconds"] if "tokenizers" in found else 0
    for row in found.values() if base else ():
        row["times_tokenizers"] = round(row["cpu_seconds"] / base, 2)
    return found


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
