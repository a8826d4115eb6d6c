"""`chatfmt stats`: the figures of a whole dataset, on a terminal, as JSON and as a gate for CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DataProblem, Location
from .. import options, terminal
from ..options import Sources
from ..requests import to_recipe
from ..summary import left_behind
from ..workers import reading_in_workers
from .inspect import short

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from ...pipeline.inspection.figures.aggregate import Figures
    from ...pipeline.inspection.figures.gather import Gathered
    from ...pipeline.inspection.figures.groups import Groups
    from ...pipeline.inspection.figures.histogram import Histogram
    from ...recipe import Recipe

SHOWN = 8
"""The roles and scripts that are listed by name."""
BAR = 30
"""The columns of a full bar."""
SPARKS = "▁▂▃▄▅▆▇█"


@options.declare(
    options.FIGURES,
    json=options.REPORT["json"],
    by=options.value("COLUMN", "Also show the lengths for each value of this column.", "--by", completes="keep"),
    fail_if=options.value(
        "EXPR", "Exit with 1 if this holds: 'p99_tokens > 4096'. Repeatable.", "--fail-if", many=True
    ),
)
@reading_in_workers
def stats(source: Sources, **given: Any) -> None:
    """Show the figures of all rows: roles, turns, lengths, trained text, scripts, duplicates, problems.

    Names for --fail-if, which --json has in `values`: rows, conversations, rejected, filtered, duplicates, warnings,
    left_columns, left_keys, trained_share, over_max_tokens; min, mean, p10, p50, p90, p95, p99 and max of turns,
    characters and tokens, as in p99_tokens; and the codes of `chatfmt checks` and of
    reasons to reject. A gate that divides by a figure of zero fails too: write 'rows > 0 and rejected / rows > 0.01'.
    """
    from ...manifest import MANIFEST
    from ...pipeline import Scratch, cores
    from ...pipeline.inspection.figures.aggregate import known_names, values
    from ...pipeline.inspection.figures.gate import Gate
    from ...pipeline.inspection.figures.gather import gather
    from ...pipeline.inspection.figures.plain import to_json

    gates = [Gate(text) for text in given.pop("fail_if") or ()]
    by = given.pop("by")
    recipe, run, _ = to_recipe(source, given)
    written = any((Path(spec.source) / MANIFEST).is_file() for spec in recipe.source)
    names = dict.fromkeys(known_names())
    for gate in gates:
        gate.check(names, {} if written else without_value(recipe))
    with Scratch() as scratch, terminal.reading() as advance:
        found = gather(recipe, scratch, run.workers or cores(), by=by, on_progress=advance)
    named = values([each.figures for each in found], recipe.max_tokens)
    for gate in gates:
        gate.check(names, {name: "" for name in names if name not in named})
    if run.json:
        terminal.print_json(to_json(found, named))
    else:
        for each in found:
            print_figures(each, recipe.max_tokens)
    if failed := [problem for gate in gates if (problem := failure(gate.text, gate.names, gate.holds(named), named))]:
        raise DataProblem("; ".join(failed))


def without_value(recipe: Recipe) -> dict[str, str]:
    """Return the names without a value in this run, each with the flag that gives it one."""
    from ...pipeline.inspection.figures.aggregate import known_names
    from ...recipe import renders

    absent: dict[str, str] = {}
    if recipe.tokenizer is None:
        absent |= {name: "--tokenizer DIR" for name in known_names() if name.endswith("_tokens")}
    if recipe.max_tokens is None:
        absent["over_max_tokens"] = "--max-tokens 4096"
    if not renders(recipe.template):
        absent["trained_share"] = "-t chatml"
    return absent


def failure(text: str, names: Sequence[str], holds: bool | None, named: Mapping[str, float]) -> str:
    """Return why the gate closes, with the values of its names; empty if it stays open."""
    shown = ", ".join(f"`{name}` is {number(named.get(name, 0))}" for name in names)
    if holds is None:
        return f"`{text}` cannot be judged, as it divides by zero: {shown}"
    return f"`{text}` holds: {shown}" if holds else ""


def number(value: float) -> str:
    """Return a figure as text: whole, or with up to four decimal places."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4f}".rstrip("0")


def print_figures(found: Gathered, limit: int | None) -> None:
    """Print the figures of one source; `limit` is that of `--max-tokens`."""
    figures, screen = found.figures, terminal.console()
    screen.print(terminal.visible(str(Location(found.source.shown))), style="bold")
    screen.print(terminal.visible(heading(found)), soft_wrap=True)
    if figures.lengths["characters"].count or figures.lengths["tokens"].count:
        screen.print(lengths_table(figures))
    for title, noun, counts in (("role", "turns", figures.roles), ("script", "letters", figures.scripts)):
        if counts:
            screen.print(bars_table(title, noun, counts))
    if figures.groups is not None:
        screen.print(groups_table(figures.groups))
    for line in facts(figures, limit):
        terminal.print_wrapped(line)
    if codes := figures.findings:
        rows = [(code, kind(figures, code), f"{count:,}", where(figures, code)) for code, count in codes.items()]
        screen.print(terminal.table(("problem", "kind", "rows", "such as"), rows, right=(2,)))


def heading(found: Gathered) -> str:
    """Return what was read, and as what."""
    from ...recipe import renders

    counts, template = found.figures.counts, found.template
    rendered = f", template {template}" if renders(template) else ""
    read, made = terminal.counted(counts.read, "row"), terminal.counted(found.figures.conversations, "conversation")
    if found.manifest is not None:
        return f"{made} written, of {read} read{rendered}"
    dialect = None if found.plan is None else found.plan.job.dialect
    return f"{read}, {made}, dialect {dialect}{rendered}"


def lengths_table(figures: Figures) -> Table:
    """Return the table of lengths, each with its distribution as a line of bars from the shortest to the longest."""
    columns = ("min", "p50", "p90", "p99", "max")
    rows: list[list[object]] = []
    for name, lengths in figures.lengths.items():
        if not lengths.count:
            continue
        known = dict(lengths.statistics())
        mean = round(known["mean"], 1 if known["mean"] < 100 else 0)
        rows.append([name, coloured(sparkline(lengths)), *(number(known[each]) for each in columns), number(mean)])
    return terminal.table(("per row", "distribution", *columns, "mean"), rows, right=range(2, 8))


def sparkline(lengths: Histogram) -> str:
    """Return how often lengths occur in up to 12 bins, as bars of a character each."""
    counts = [each.count for each in lengths.bins(12)]
    most = max(counts)
    return "".join(SPARKS[-(-count * 7 // most)] if count else " " for count in counts)


def bars_table(title: str, noun: str, counts: Counter[str]) -> Table:
    """Return a table of counts with a bar for the share of each."""
    from ...pipeline.inspection.figures.histogram import share

    total, named = counts.total() or 1, counts.most_common(SHOWN)
    if more := counts.most_common()[SHOWN:]:
        named.append((f"{len(more)} more", sum(count for _, count in more)))
    rows = [(name, coloured(bar(count / total)), f"{count:,}", share(count / total)) for name, count in named]
    return terminal.table((title, "", noun, "share"), rows, right=(2, 3))


def groups_table(groups: Groups) -> Table:
    """Return a table of the values of a column: their share, and half and most of the lengths of their rows."""
    from ...pipeline.inspection.figures.histogram import share

    shown = list(groups.largest())
    total = sum(group.conversations for _, group in shown) or 1
    lengths = list(dict.fromkeys(name for _, group in shown for name in group.known))
    rows = []
    for name, group in shown:
        spreads = [group.lengths[length] for length in lengths]
        figures = [number(each.percentile(percent)) for each in spreads for percent in (50, 99)]
        part = group.conversations / total
        rows.append([short(name), coloured(bar(part, 10)), f"{group.conversations:,}", share(part), *figures])
    named = [f"{length} {percent}" for length in lengths for percent in ("p50", "p99")]
    return terminal.table((groups.column, "", "rows", "share", *named), rows, right=range(2, 4 + len(named)))


def coloured(bars: str) -> Text:
    """Return bars in the colour of figures, plain in a pipe."""
    from rich.text import Text

    return Text(bars, style="cyan")


def bar(share: float, width: int = BAR) -> str:
    """Return a bar as long as the share, never empty, in eighths of a column."""
    eighths = max(1, round(share * width * 8))
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")


def facts(figures: Figures, limit: int | None) -> Iterator[str]:
    """Yield lines on trained text, duplicates, long rows and what is left behind."""
    from ...pipeline.inspection.figures.histogram import share

    if (trained := figures.trained_share) is not None:
        unit = "characters" if figures.lengths["characters"].count else "tokens"
        yield f"trained: {bar(trained)} {trained:.1%} of {figures.rendered:,} {unit} of text"
    about = "" if figures.repeats.is_exact else "about "
    repeated, every = figures.repeats.repeated, max(1, figures.conversations)
    yield f"duplicates: {about}{terminal.counted(repeated, 'conversation')} ({share(repeated / every)})"
    if limit is not None and figures.lengths["tokens"].count:
        yield f"over {limit:,} tokens: {terminal.counted(figures.lengths['tokens'].above(limit), 'row')}"
    if line := left_behind(list(figures.counts.left_column), list(figures.counts.left_key)):
        yield line
    if not figures.findings:
        yield "problems: none"


def kind(figures: Figures, code: str) -> str:
    """Return whether rows with a finding are rejected."""
    return "rejected" if code in figures.counts.reasons else "warning"


def where(figures: Figures, code: str) -> str:
    """Return the first rows with a finding, and what it is in the first of them."""
    examples = figures.examples.get(code, [])
    rows = ", ".join(one.at.place for one in examples if one.at.row is not None)
    return f"{rows}: {examples[0].detail}" if examples else ""
