"""Miniatures of HuggingFaceTB/smoltalk and openai/gsm8k, in the layouts of the real repositories, text by us."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

SMOLTALK = "HuggingFaceTB/smoltalk"
GSM8K = "openai/gsm8k"
SUBSETS = {
    "all": (9, 1), "smol-magpie-ultra": (6, 1), "smol-constraints": (1, 1), "smol-rewrite": (1, 1),
    "smol-summarize": (1, 1), "apigen-80k": (1, 1), "everyday-conversations": (1, 1),
    "explore-instruct-rewriting": (1, 1), "longalign": (1, 1), "metamathqa-50k": (1, 1), "numina-cot-100k": (2, 1),
    "openhermes-100k": (1, 1), "self-oss-instruct": (1, 1), "systemchats-30k": (1, 1),
}  # fmt: skip
"""The subsets of smoltalk with the numbers of their train and test files."""
ROWS = 3
"""Rows of each file of smoltalk here."""

_TURN = pa.struct([("content", pa.string()), ("role", pa.string())])
_CHAT = [("messages", pa.list_(_TURN))]
_TOPICS = ("a kettle", "two cats", "the 7:15 train", "naïve café owners", "日本の庭", "a list of 3 things")


def smoltalk() -> dict[str, bytes]:
    """The files of the repository by path: a card with 14 subsets, Parquet files under `data/SUBSET/`."""
    files = {
        "README.md": _card("apache-2.0", SUBSETS, "data/{subset}/{split}-*").encode(),
        ".gitattributes": b"*.parquet lfs\n",
    }
    for subset, counts in SUBSETS.items():
        for split, count in zip(("train", "test"), counts, strict=True):
            for number in range(count):
                path = f"data/{subset}/{split}-{number:05d}-of-{count:05d}.parquet"
                files[path] = _parquet(smoltalk_rows(subset, split, number), subset == "all")
    return files


def smoltalk_rows(subset: str, split: str, number: int) -> list[dict[str, object]]:
    """The rows of one file; `all` has a column `source`."""
    rows: list[dict[str, object]] = []
    for row in range(ROWS):
        topic = _TOPICS[(number + row) % len(_TOPICS)]
        system = [{"content": f"You know {subset}.", "role": "system"}] if row % 2 else []
        turns = [
            {"content": f"Tell me about {topic} ({split} {number}.{row}).", "role": "user"},
            {"content": f"  Gladly:\n\n- {topic}\n", "role": "assistant"},
        ]
        rows.append({"messages": system + turns, **({"source": "everyday-conversations"} if subset == "all" else {})})
    return rows


def gsm8k() -> dict[str, bytes]:
    """The files of the repository by path: `main` and `socratic`, one Parquet file a split."""
    subsets = {"main": (1, 1), "socratic": (1, 1)}
    files = {"README.md": _card("mit", subsets, "{subset}/{split}-*").encode(), ".gitattributes": b"*.parquet lfs\n"}
    for subset in subsets:
        for split in ("train", "test"):
            files[f"{subset}/{split}-00000-of-00001.parquet"] = _parquet(gsm8k_rows(subset, split), False, _PAIR)
    return files


_PAIR = [("question", pa.string()), ("answer", pa.string())]


def gsm8k_rows(subset: str, split: str) -> list[dict[str, object]]:
    """Word problems with calculator annotations; `socratic` asks before each step."""
    rows: list[dict[str, object]] = []
    for number in range(2, 7 if split == "train" else 4):
        ask = "How many does she buy? ** " if subset == "socratic" else ""
        step = f"{ask}She buys 3*{number}=<<3*{number}={3 * number}>>{3 * number} pears."
        rows.append(
            {
                "question": f"Ada buys 3 bags of {number} pears.  How many is that?",
                "answer": f"{step}\n#### {3 * number}",
            }
        )
    return rows


def _parquet(rows: list[dict[str, object]], source: bool, fields: list[tuple[str, pa.DataType]] = _CHAT) -> bytes:
    schema = pa.schema([*fields, ("source", pa.string())] if source else fields)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink, row_group_size=2)
    return sink.getvalue()


def _card(licence: str, subsets: dict[str, tuple[int, int]], path: str) -> str:
    configs = "".join(
        f"- config_name: {subset}\n  data_files:\n"
        + "".join(
            f"  - split: {split}\n    path: {path.format(subset=subset, split=split)}\n" for split in ("train", "test")
        )
        for subset in subsets
    )
    return f"---\nlicense: {licence}\nlanguage:\n- en\nconfigs:\n{configs}---\n\n# A miniature\n"
