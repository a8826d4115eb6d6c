# ruff: noqa: E501
"""What system error: full disks, closed and broken pipes, too many open files, too large ones, odd variables."""

from __future__ import annotations

from .case import GOOD, Case, Error, Refused, Rows, Told, lines

MANY = lines(*[GOOD] * 5000)
ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
REFUSED = Error(5, "", "system error: No space left on device")
FULL = Error(5, "output.enospc", "cannot write ")
STDOUT = ("convert", "in.jsonl")
CASES: list[Case] = [
    Case("stdout is full", {"in.jsonl": MANY}, FULL, STDOUT, stdout="full"), Case("stdout is full at one row", {"in.jsonl": lines(GOOD)}, FULL, STDOUT, stdout="full"), Case("stdout is closed", {"in.jsonl": MANY}, Error(5, "output.closed", "stdout is closed"), STDOUT, stdout="closed"),
    Case("nobody reads stdout", {"in.jsonl": MANY}, Told(141), STDOUT, stdout="gone"), Case("nobody reads one row", {"in.jsonl": lines(GOOD)}, Told(141), STDOUT, stdout="gone"), Case("a pipe to a full disk", {}, FULL, ("convert", "-"), stdin=MANY, stdout="full"), Case("a pipe to nobody", {}, Told(141), ("convert", "-"), stdin=MANY, stdout="gone"),
    Case("a pipe and stdout closed", {}, Error(5, "output.closed", "stdout is closed"), ("convert", "-"), stdin=MANY, stdout="closed"), Case("stdout full, a template", {"in.jsonl": MANY}, FULL, (*STDOUT, "-t", "chatml"), stdout="full"),
    Case("a device that is full", {"in.jsonl": MANY}, FULL, ("convert", "in.jsonl", "-o", "/dev/full")), Case("a device that takes all", {"in.jsonl": MANY}, Told(0, stderr=("wrote 5,000 rows",)), ("convert", "in.jsonl", "-o", "/dev/null")), Case("Parquet to a device", {"in.jsonl": MANY}, Error(2, "", "Parquet cannot be streamed"), ("convert", "in.jsonl", "-o", "/dev/null", "--format", "parquet")),
    Case("help and stdout full", {}, REFUSED, ("templates", "list", "--json"), stdout="full"), Case("help and stdout closed", {}, Told(5), ("templates", "list", "--json"), stdout="closed"), Case("help and nobody reads", {}, Told(141), ("templates", "list", "--json"), stdout="gone"), Case("inspect and nobody reads", {"in.jsonl": MANY}, Told(141), ("inspect", "in.jsonl"), stdout="gone"),
    Case("inspect and stdout full", {"in.jsonl": MANY}, REFUSED, ("inspect", "in.jsonl"), stdout="full"), Case("inspect and stdout closed", {"in.jsonl": MANY}, Told(5), ("inspect", "in.jsonl"), stdout="closed"), Case("preview and nobody reads", {"in.jsonl": MANY}, Told(141), ("preview", "in.jsonl"), stdout="gone"), Case("preview and stdout full", {"in.jsonl": MANY}, REFUSED, ("preview", "in.jsonl"), stdout="full"),
    Case("the summary and stdout full", {"in.jsonl": lines(GOOD)}, Told(5, stderr=("system error: No space left on device",)), ("convert", "in.jsonl", "-o", "out.jsonl", "--json"), stdout="full"), Case("check and nobody reads", {"in.jsonl": MANY}, Told(141), ("check", "in.jsonl", "--json"), stdout="gone"),
    Case("a file too large", {"in.jsonl": MANY}, Error(5, "output.efbig", "cannot write "), limits={"RLIMIT_FSIZE": 100_000}), Case("a file too large, Parquet", {"in.jsonl": MANY}, Error(5, "output.efbig", "cannot write "), ("convert", "in.jsonl", "-o", "out.parquet"), limits={"RLIMIT_FSIZE": 1000}), Case("a file too large, packed", {"in.jsonl": MANY}, Error(5, "output.efbig", "cannot write "), ("convert", "in.jsonl", "-o", "out.jsonl.gz"), limits={"RLIMIT_FSIZE": 1000}),
    Case("a file too large, a folder", {"in.jsonl": MANY}, Error(5, "output.efbig", "cannot write "), ("convert", "in.jsonl", "-o", "out"), limits={"RLIMIT_FSIZE": 1000}, leaves=("out",)), Case("no byte to be written", {"in.jsonl": MANY}, Error(5, "output.efbig", "cannot write "), limits={"RLIMIT_FSIZE": 0}, leaves=(".out.jsonl.chatfmt",)), Case("no byte, through a pipe", {}, Error(5, "scratch.efbig", "cannot write temporary files to "), ("convert", "-", "-o", "out.jsonl"), stdin=MANY, limits={"RLIMIT_FSIZE": 0}),
    *(Case(f"{number} open files", {"in.jsonl": MANY, "t.jinja": b"{% for turn in messages %}{{ turn.content }}{% endfor %}"}, Refused(), ("convert", "in.jsonl", "-t", "t.jinja", "-o", "out.jsonl"), limits={"RLIMIT_NOFILE": number}, leaves=(".out.jsonl.chatfmt",)) for number in range(10, 30, 2)),
    Case("a thousand workers for one task", {"in.jsonl": lines(GOOD)}, Rows([ROW]), ("convert", "in.jsonl", "-o", "out.jsonl", "--workers", "1000")),
    Case("an executor that is none", {"in.jsonl": MANY}, Error(2, "", "unknown executor `threads`"), ("convert", "in.jsonl", "-o", "out.jsonl", "--executor", "threads")), Case("a budget that is none", {"in.jsonl": MANY}, Error(2, "", ""), ("convert", "in.jsonl", "-o", "out.jsonl", "--on-error", "skip", "--max-bad", "many")), Case("a size that is none", {"in.jsonl": MANY}, Error(2, "", ""), ("convert", "in.jsonl", "-o", "out", "--shard-size", "-5MB")),
    Case("all rows bad", {"in.jsonl": b"x\n" * 9}, Error(4, "json.syntax", "not JSON: ")), Case("all rows bad, skipped", {"in.jsonl": b"x\n" * 9}, Error(4, "json.syntax", "not JSON: "), ("convert", "in.jsonl", "-o", "out.jsonl", "--on-error", "skip", "--max-bad", "100%")), Case("over the budget", {"in.jsonl": MANY + b"x\n" * 3}, Error(1, "", "3 of 5003 rows were rejected"), ("convert", "in.jsonl", "-o", "out.jsonl", "--on-error", "skip", "--max-bad", "2"), leaves=(".out.jsonl.chatfmt",)),
]  # fmt: skip
