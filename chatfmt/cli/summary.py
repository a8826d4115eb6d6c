"""The summary of a conversion, as text or JSON."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import abridged
from . import terminal

if TYPE_CHECKING:
    from ..pipeline import Summary
    from ..recipe import Run


LEAVE_ROWS_OUT = ("over_length.drop", "control_tokens.drop", "dropped.")
"""How changes begin that leave rows out."""
ADDS_ROWS = {"split_turns": " (rows added: there is one for each trained answer)"}
"""What a count of changes means where rows were added."""
SHOWN_LEAVES = 6
"""Leaves of the source that the summary names; the JSON report has all."""


def print_summary(summary: Summary, run: Run) -> None:
    """Print the summary: JSON on stdout unless the data went there, else on stderr."""
    if run.json:
        text = json.dumps(summary.to_json(), ensure_ascii=False)
        terminal.print_err(text) if summary.out == "-" else terminal.print_out(text)
    elif not run.quiet:
        terminal.print_err(terminal.wrapped(describe(summary), stderr=True))
        if terminal.is_drawn(quiet=False) and (line := next_steps(summary.out)):
            terminal.print_err(line)


def describe(summary: Summary) -> str:
    """Return one or more lines that account for every row."""
    if summary.already_complete:
        rows = f": {terminal.counted(summary.rows, 'row')}" if summary.shards else ""  # of a file they are not counted
        return f"`{summary.out}` is already complete{rows}"
    where = "stdout" if summary.out == "-" else f"`{summary.out}`"
    splits = ", ".join(f"{split} {rows:,}" for split, rows in summary.splits.items())
    by_split = f" ({splits})" if len(summary.splits) > 1 else ""
    lines = [f"wrote {terminal.counted(summary.rows, 'row')}{by_split} to {where}, {size(summary.bytes)}"]
    if summary.shards > 1 and not (summary.out == "-" or Path(summary.out).is_file()):
        lines[0] += f" in {summary.shards} shards"
    left = {name: count for name, count in summary.changes.items() if name.startswith(LEAVE_ROWS_OUT)}
    if summary.filtered:
        why = f" ({_listed(left)})" if left else ""
        lines.append(f"filtered out: {terminal.counted(summary.filtered, 'row')}{why}")
    if summary.duplicates:
        lines.append(f"duplicates dropped: {terminal.counted(summary.duplicates, 'row')}")
    if room := summary.packed.get("room"):
        conversations = terminal.counted(summary.packed["conversations"], "conversation")
        lines.append(
            f"packed: {conversations}, {summary.packed['tokens']:,} tokens, {summary.packed['tokens'] / room:.1%} full"
        )
    if summary.rejected:
        rows = terminal.counted(summary.rows_in, "row")
        kept = f"in `{summary.rejects}`" if summary.rejects else "not kept without --rejects FILE"
        lines.append(f"rejected: {summary.rejected:,} of {rows} ({_listed(summary.reasons)}), {kept}")
    changed = {name: count for name, count in summary.changes.items() if name not in left}
    for label, counts in (("changed", changed), ("warnings", summary.findings)):
        if counts:
            lines.append(f"{label}: {_listed(counts, remedies() if label == 'warnings' else ADDS_ROWS)}")
    if behind := left_behind(summary.left_columns, summary.left_keys):
        lines.append(behind)
    if summary.left_out:
        lines.append(left_out(summary.left_out))
    return "\n".join(lines)


def remedies() -> dict[str, str]:
    """Return the flag that mends what a check finds, by its code, where one mends it in every row.

    A turn that is dropped may be the only answer: what helps then, `check` says row by row.
    """
    from ..checks import CHECKS

    flags = {code: check.hint for code, check in CHECKS.items() if check.hint.startswith("--transform ")}
    return {code: f" ({flag})" for code, flag in flags.items() if "=drop" not in flag}


def _listed(counts: Mapping[str, int], remedies: Mapping[str, str] = {}) -> str:
    return ", ".join(f"{name} {count:,}{remedies.get(name, '')}" for name, count in counts.items())


def next_steps(out: str) -> str:
    """Return the commands that people run next on a folder that chatfmt wrote; empty for other output."""
    from ..manifest import MANIFEST, read_manifest

    if not (Path(out) / MANIFEST).is_file():
        return ""
    folder = shlex.quote(out)
    recipe = read_manifest(Path(out)).recipe
    named, look = "" if recipe.get("trainer") else " --for TRAINER", "stats" if recipe["to"] == "tokens" else "preview"
    loader = f"chatfmt loader {folder}{named} --model MODEL"
    return f"next: chatfmt {look} {folder} · {loader} · chatfmt push {folder} OWNER/NAME"


def left_out(names: Iterable[str]) -> str:
    """Return one line on what the template leaves out of the text."""
    return f"left out by the template: {', '.join(names)}"


def left_behind(columns: Sequence[str], keys: Sequence[str]) -> str:
    """Return one line on the leaves of unused columns and of used ones that are left behind; empty without any."""
    it = "it" if len(columns) == 1 else "them"
    shown = columns if len(columns) <= SHOWN_LEAVES else _joined(columns)
    groups = [f"{abridged(shown, SHOWN_LEAVES)}; --keep all carries {it}"] if columns else []
    groups += [abridged(keys, SHOWN_LEAVES)] if keys else []
    cut = " (--json lists all)" if max(len(columns), len(keys)) > SHOWN_LEAVES else ""
    return f"left behind: {'; also '.join(groups)}{cut}" if groups else ""


def _joined(leaves: Sequence[str]) -> list[str]:
    """Return the leaves, those of an object as one: `reward_model.* (2 keys)`."""
    keys = Counter(leaf.partition(".")[0] for leaf in leaves)
    objects = {root: f"{root}.* ({count} keys)" for root, count in keys.items() if count > 1}
    return list(dict.fromkeys(objects.get(leaf.partition(".")[0], leaf) for leaf in leaves))


def size(count: int) -> str:
    """Return a number of bytes in the unit that fits it, as in `4.2 MB`."""
    number = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return ""
