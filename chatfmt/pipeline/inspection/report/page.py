"""Make the page of a report: figures, charts and rows into one HTML file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .... import checks, writers
from ....errors import ChatfmtError
from ....executors import cores
from ....recipe import Recipe, renders, required
from ....render import sandbox_sessions
from ....render.inspection.probe import probe
from ....render.template.chat_template import ChatTemplate
from ....visible_text import visible
from ...planning.scratch import Scratch
from ..columns import describe_columns
from ..command import convert_command, error_arguments, tried_arguments
from ..figures.aggregate import Figures
from ..figures.gather import Gathered, gather
from ..figures.scripts import LANGUAGES
from ..preview import PreviewRow
from . import charts
from .flow import SHOWN, keys_left, routes
from .rows import to_browser

if TYPE_CHECKING:
    from markupsafe import Markup

HERE = Path(__file__).parent
LENGTHS = {"tokens": "tokens per row", "characters": "characters per row", "turns": "turns per row"}
BARS = 8
Shown = tuple[PreviewRow, Sequence[str]]
"""A row to browse, and the reasons why it was picked."""


def report(recipe: Recipe, page: Path | str, *, workers: int | None = None) -> int:
    """Read all rows of the sources of a recipe, write one HTML page on them, and return its size in bytes.

    The page is written whole or not at all. Raises MissingExtra without `chatfmt[report]`, and what `convert` raises
    for its sources; OutputError if the page cannot be written.
    """
    required(recipe, "report")
    charts.check_installed()
    with Scratch() as scratch:
        text = report_page(recipe, gather(recipe, scratch, workers or cores(), picks=True))
    return write_page(Path(page), text)


def write_page(page: Path, text: str) -> int:
    """Write a page, whole or not at all, and return its size in bytes."""
    data = text.encode()
    writers.write_atomic(page, data)
    return len(data)


def report_page(recipe: Recipe, found: Sequence[Gathered]) -> str:
    """Return the HTML of the report on the sources of a recipe, gathered with their picks.

    Raises MissingExtra without `chatfmt[report]`.
    """
    charts.check_installed()
    title = ", ".join(each.source.shown for each in found)
    rows = [row for each in found for row in each.rows]
    return render_page(f"chatfmt report: {title}", [section(recipe, each) for each in found], rows)


def render_page(title: str, sections: Sequence[Mapping[str, Any]], rows: Sequence[Shown]) -> str:
    """Return the page with sections and rows; only its own style and script may run."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    files = {name: (HERE / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: visible(value, lines=True) if type(value) is str else value,
    )  # fmt: skip
    environment.filters["marked"] = marked
    data = to_browser(rows)
    return environment.get_template("page.html").render(
        title=title,
        has_rows=bool(rows),
        sections=sections,
        rows=data.translate({ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}),
        policy=f"default-src 'none'; style-src '{digest(files['css'])}'; script-src '{digest(files['js'])}'; "
        "base-uri 'none'; form-action 'none'",
        **files,
    )


def marked(text: str) -> Markup:
    """Return text as HTML in which what is between backticks, as in messages on a terminal, is code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(visible(text, lines=True)))))


def digest(text: str) -> str:
    """Return the hash by which a content security policy names an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def section(recipe: Recipe, found: Gathered) -> dict[str, Any]:
    """Return what the page says of one source."""
    figures, source = found.figures, found.source
    files = sum(len(each) for each in source.splits.values())
    facts = {
        "kind": "output of chatfmt" if found.manifest else {"hub": "dataset on the Hub"}.get(source.kind, source.kind),
        "files": f"{files:,}", "splits": ", ".join(source.splits), "dataset": source.dataset_id,
        "commit": source.revision, "licence": source.licence,
        "dialect": found.plan and f"{found.plan.job.dialect}: {found.plan.detection.reason}",
        "template": found.template, "tokenizer": recipe.tokenizer, "note": "; ".join(source.notes),
    }  # fmt: skip
    return {
        "name": source.shown,
        "facts": {name: value for name, value in facts.items() if value},
        "tiles": tiles(figures),
        "columns": columns(found),
        "lengths": [length for name, noun in LENGTHS.items() if (length := lengths(figures, name, noun, recipe))],
        "counts": [
            *counted("Roles", "turns", figures.roles, {}),
            *counted("Scripts", "letters", figures.scripts, LANGUAGES),
        ],
        "problems": problems(figures),
        "changes": dict(figures.counts.changes),
        "left": [*figures.counts.left_column, *figures.counts.left_key],
        "card": card(found),
        "next": next_steps(recipe, found),
    }


def tiles(figures: Figures) -> list[tuple[str, str, str]]:
    """Return the figures at the top: label, value, and what it is of."""
    counts, repeats = figures.counts, figures.repeats
    made = [
        ("conversations", f"{figures.conversations:,}", f"of {counts.read:,} rows"),
        ("rejected rows", f"{counts.rejected:,}", f"{counts.rejected / max(1, counts.read):.1%}"),
        ("duplicates", f"{'' if repeats.is_exact else '≈ '}{repeats.repeated:,}",
         f"{repeats.repeated / max(1, figures.conversations):.1%}"),
    ]  # fmt: skip
    unit = "tokens" if figures.lengths["tokens"].count else "characters"
    if (known := figures.lengths[unit]).count:
        made.append(
            (f"{unit}, median", f"{known.percentile(50):,}", f"p99 {known.percentile(99):,}, longest {known.largest:,}")
        )
    if figures.trained_share is not None:
        of = "characters of text" if figures.lengths["characters"].count else "tokens"
        made.append(("trained", f"{figures.trained_share:.1%}", f"of {figures.rendered:,} {of}"))
    return made


def columns(found: Gathered) -> dict[str, Any] | None:
    """Return the picture and the table of where columns go; None for what was read without a dialect."""
    plan = found.plan
    if plan is None or plan.first_rows is None or found.manifest is not None:
        return None
    described = describe_columns([plan.first_rows])
    names = tuple(column["name"] for column in described)
    every = routes(plan.job, plan.detection, names)
    ends = {name: ", ".join(route.to for route in every if route.column == name) for name in names}
    table = [
        (column["name"], ends[column["name"]], column["type"], f"{column['filled']} of {len(plan.first_rows)}")
        for column in described
    ]
    keys = [(leaf.path, "left behind") for leaf in plan.job.ledger.left_keys]
    shown = [route for route in every if route.column in names[:SHOWN]]
    svg = charts.flow([*shown, *keys_left(plan.job, names)])
    seen = len(plan.first_rows)
    filled = "filled" if seen >= found.figures.counts.read else f"filled in the first {seen:,} rows"
    return {"svg": svg, "table": table, "keys": keys, "hidden": max(0, len(names) - SHOWN), "filled": filled}


def lengths(figures: Figures, name: str, noun: str, recipe: Recipe) -> dict[str, Any] | None:
    """Return the histogram of one kind of length and its statistics."""
    known = figures.lengths[name]
    if not known.count:
        return None
    limit = recipe.max_tokens if name == "tokens" else None
    table = [(statistic, f"{value:,}") for statistic, value in known.statistics()]
    if limit is not None:
        table.append((f"over {limit:,}", f"{known.above(limit):,} rows"))
    grows = ", bins grow with length" if known.is_skewed else ""
    same = known.smallest == known.largest
    svg = "" if same else charts.histogram(known, noun + grows, limit)
    return {"title": noun.capitalize(), "svg": svg, "same": f"{known.largest:,}" if same else "", "table": table}


def counted(title: str, noun: str, counts: Counter[str], about: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield bars for the most common names, and a table of all with what `about` says of them; nothing without any."""
    if not counts:
        return
    top = dict(counts.most_common(BARS))
    if others := counts.total() - sum(top.values()):
        top[f"{len(counts) - BARS} more"] = others
    top = {charts.printable(name): count for name, count in top.items()}
    table = [(name, f"{count:,}", about.get(name, "")) for name, count in counts.most_common()]
    yield {"title": title, "noun": noun, "svg": charts.bars(top, noun), "table": table}


def problems(figures: Figures) -> list[dict[str, Any]]:
    """Return each finding and each reason to reject, the most frequent first."""
    found = sorted(figures.findings.items(), key=lambda each: -each[1])
    return [
        {
            "code": code,
            "count": count,
            "kind": "rejected" if code in figures.counts.reasons else "warning",
            "meaning": meaning(figures, code),
            "hint": next((one.hint for one in figures.examples.get(code, ()) if one.hint), ""),
            "examples": figures.examples.get(code, []),
        }
        for code, count in found
    ]


def meaning(figures: Figures, code: str) -> str:
    """Return what a check finds, or why the first of the rejected rows was rejected."""
    if code in checks.CHECKS:
        return checks.CHECKS[code].summary
    return next((one.detail for one in figures.examples.get(code, ())), "")


def card(found: Gathered) -> list[tuple[str, str]]:
    """Return the outcomes of probing the template; none without one, or if it is no longer available."""
    if not renders(found.template):
        return []
    try:
        template = ChatTemplate.load(str(found.template))
        outcome = probe(template, {}, sandbox_sessions(template, "auto")).as_json()
    except ChatfmtError:
        return []
    words = {True: "yes", False: "no"}
    return [
        (name.replace("_", " "), words[value] if isinstance(value, bool) else str(value) or "none")
        for name, value in outcome.items()
        if name != "flags"
    ]


def next_steps(recipe: Recipe, found: Gathered) -> list[tuple[str, str]]:
    """Return what to do next: why, and the command or flag."""
    figures, steps = found.figures, []
    if found.manifest is not None:
        return [("Check that all checksums match:", f"chatfmt verify {found.source.shown}")]
    if found.plan is not None:
        skipping = error_arguments(recipe, figures.counts.reasons, figures.counts.findings, figures.counts.read)
        rendered = tried_arguments(recipe, found.plan)
        command = convert_command(recipe, found.source, found.plan.job.dialect, rendered, skipping)
        steps.append(("Convert it as it was read here:", command))
    if figures.repeats.repeated:
        steps.append((f"Drop {figures.repeats.repeated:,} duplicates: add", "--dedup"))
    if recipe.max_tokens is not None and (over := figures.lengths["tokens"].above(recipe.max_tokens)):
        what = f"{over:,} rows over {recipe.max_tokens:,} tokens"
        flags = f"--max-tokens {recipe.max_tokens} --over-length split-turns"
        steps.append((f"Drop or split {what}: add", f"--tokenizer {shlex.quote(str(recipe.tokenizer))} {flags}"))
    if figures.counts.left_column:
        steps.append(("Carry the columns that are left behind: add", "--keep all"))
    return steps
