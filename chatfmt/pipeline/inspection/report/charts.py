"""Charts as SVG, drawn by Vega-Lite (`chatfmt[report]`) when the report is made; colours are the page's variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ....errors import MissingExtra
from ....visible_text import visible
from ..figures.histogram import Bin, Histogram, share
from .flow import Route

WIDTH = 330
BINS = 28
NAME = 17
"""Characters of a name beside a line or a bar."""
_CONFIG = {
    "background": None,
    "font": "inherit",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)", "titleColor": "var(--muted)", "gridColor": "var(--line)", "domain": False,
        "tickColor": "var(--line)", "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal",
    },
    "bar": {"color": "var(--bar)"},
    "text": {"color": "var(--ink)", "fontSize": 12},
    "axisY": {"ticks": False},
}  # fmt: skip


_COUNTS = {"tickCount": 4, "tickMinStep": 1, "labelExpr": "format(datum.value, '~s')"}


def check_installed() -> None:
    """Raise MissingExtra if charts cannot be drawn."""
    try:
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise MissingExtra.of("vl-convert-python", "report") from error


def draw(spec: Mapping[str, Any]) -> str:
    """Return the SVG of a Vega-Lite specification; nothing is fetched."""
    import vl_convert

    whole = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "config": _CONFIG, "width": WIDTH, **spec}
    whole["autosize"] = {"type": "fit", "contains": "padding"}
    return visible(str(vl_convert.vegalite_to_svg(whole, allowed_base_urls=[])), lines=True)


def histogram(lengths: Histogram, noun: str, limit: int | None = None) -> str:
    """Return a histogram of lengths, with marks at the median, at the 99th percentile and at `limit`."""
    bins = lengths.bins(BINS)
    edges = [one.start for one in bins] + [bins[-1].stop]
    marks = [("median", lengths.percentile(50), "var(--muted)"), ("p99", lengths.percentile(99), "var(--muted)")]
    if limit is not None:
        marks.append((f"limit {limit:,}", limit, "var(--warn)"))
    layers = [_bins(bins, edges, noun)]
    for row, (label, value, colour) in enumerate(marks):
        layers += _mark(label, _place(edges, value), colour, row, to_the_right=value < edges[len(edges) // 2])
    return draw({"height": 170, "layer": layers})


def _bins(bins: Sequence[Bin], edges: Sequence[int], noun: str) -> dict[str, Any]:
    """Return the layer of bars; bins are equally wide, and some of their edges are named."""
    ticks = list(range(0, len(edges), max(1, len(edges) // 4)))
    labels = {str(tick): f"{edges[tick]:,}" for tick in ticks}
    x = {"field": "left", "type": "quantitative", "title": noun, "scale": {"domain": [0, len(bins)], "nice": False},
         "axis": {"grid": False, "values": ticks, "labelExpr": f"{labels!r}[datum.value]"}}  # fmt: skip
    room = {"domain": [0, max(one.count for one in bins) * 1.5], "nice": False}  # for the names of marks
    y = {"field": "count", "type": "quantitative", "title": None, "axis": _COUNTS, "scale": room}
    values = [{"left": i, "right": i + 0.92, "count": one.count} for i, one in enumerate(bins)]
    encoding = {"x": x, "x2": {"field": "right"}, "y": y, "y2": {"datum": 0}}
    return {"data": {"values": values}, "mark": "bar", "encoding": encoding}


def _mark(label: str, at: float, colour: str, row: int, *, to_the_right: bool) -> list[dict[str, Any]]:
    """Return the layers of a dashed line and its name beside it, in a row of its own."""
    rule = {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.5, "color": colour}
    text = {"type": "text", "fontSize": 11, "color": colour, "y": 6 + 13 * row,
            "align": "left" if to_the_right else "right", "dx": 4 if to_the_right else -4}  # fmt: skip
    shared = {"data": {"values": [{"at": at, "label": label}]}}
    x = {"x": {"field": "at", "type": "quantitative"}}
    return [
        {**shared, "mark": rule, "encoding": x},
        {**shared, "mark": text, "encoding": {**x, "text": {"field": "label"}}},
    ]


def _place(edges: Sequence[int], value: int) -> float:
    """Return the place of a value on the axis of bins."""
    for i, (start, stop) in enumerate(pairwise(edges)):
        if value < stop:
            return i + max(0, value - start) / (stop - start)
    return len(edges) - 1


def bars(counts: Mapping[str, int], noun: str) -> str:
    """Return horizontal bars with their shares, the largest first."""
    total = sum(counts.values()) or 1
    values = [
        {"name": printable(name), "count": count, "share": share(count / total)} for name, count in counts.items()
    ]
    y = {"field": "name", "type": "nominal", "sort": None, "title": None,
         "axis": {"labelColor": "var(--ink)", "labelFontSize": 12, "labelLimit": 130}}  # fmt: skip
    x = {"field": "count", "type": "quantitative", "title": noun, "axis": _COUNTS,
         "scale": {"domain": [0, max(counts.values()) * 1.25]}}  # fmt: skip
    return draw({
        "height": 26 * len(values) + 36, "data": {"values": values}, "encoding": {"y": y},
        "layer": [
            {"mark": {"type": "bar", "height": 14}, "encoding": {"x": x}},
            {"mark": {"type": "text", "align": "left", "dx": 4, "color": "var(--muted)", "fontSize": 11},
             "encoding": {"x": x, "text": {"field": "share"}}},
        ],
    })  # fmt: skip


def printable(name: str) -> str:
    """Return a name that fits, without the characters that XML refuses, on which the library ends the process."""
    shown = "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in name)
    return shown if len(shown) <= NAME else f"{shown[: NAME // 2]}…{shown[1 - NAME // 2 :]}"


COLOURS = {"read": "var(--bar)", "kept": "var(--kept)", "dropped": "var(--muted)", "left": "var(--warn)"}


def flow(routes: Sequence[Route]) -> str:
    """Return a picture with the columns on the left, where they go on the right, and a line for each route."""
    columns = list(dict.fromkeys(route.column for route in routes))
    ends = list(dict.fromkeys(route.to for route in sorted(routes, key=lambda route: list(COLOURS).index(route.kind))))
    rows = max(len(columns), len(ends))
    place = {
        side: {name: (index + 0.5) * rows / len(names) for index, name in enumerate(names)}
        for side, names in (("from", columns), ("to", ends))
    }
    points = [
        {"route": number, "x": x, "y": place["from"][route.column] if x < 0.5 else place["to"][route.to],
         "colour": COLOURS[route.kind], "dash": route.kind}
        for number, route in enumerate(routes)
        for x in (0.0, 0.12, 0.88, 1.0)
    ]  # fmt: skip
    texts = [{"x": 0.0, "y": place["from"][name], "text": printable(name), "side": "from"} for name in columns]
    texts += [{"x": 1.0, "y": place["to"][name], "text": printable(name), "side": "to"} for name in ends]
    x = {"field": "x", "type": "quantitative", "axis": None, "scale": {"domain": [-1.25, 2.25], "nice": False}}
    y = {"field": "y", "type": "quantitative", "axis": None, "scale": {"domain": [rows, 0], "nice": False}}
    line = {
        "data": {"values": points}, "mark": {"type": "line", "interpolate": "monotone", "strokeWidth": 2},
        "encoding": {
            "x": x, "y": y, "detail": {"field": "route"}, "order": {"field": "x"},
            "color": {"field": "colour", "type": "nominal", "scale": None},
            "strokeDash": {"field": "dash", "type": "nominal", "legend": None, "scale": {
                "domain": list(COLOURS), "range": [[1, 0], [1, 0], [2, 3], [5, 4]]}},
        },
    }  # fmt: skip
    labels = [
        {
            "data": {"values": [text for text in texts if text["side"] == side]},
            "mark": {"type": "text", "align": align, "dx": dx},
            "encoding": {"x": x, "y": y, "text": {"field": "text"}},
        }
        for side, align, dx in (("from", "right", -6), ("to", "left", 6))
    ]
    return draw({"height": 24 * rows + 10, "layer": [line, *labels]})
