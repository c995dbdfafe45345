"""Bars and histograms as inline SVG: the drawing stretches, the words beside it do not."""

import html
from collections.abc import Mapping, Sequence

from engine.report.bins import Histogram
from engine.report.markup import Markup, measure, number

STATUSES = ("kept", "rejected", "superseded")
_HEIGHT = 100.0
_ROW_REM = 1.15  # between the flags of two limits


def bar(counts: Mapping[str, int], whole: int) -> Markup:
    """One bar of kept, rejected and superseded, as long as their part of `whole`."""
    x, pieces = 0.0, []
    for status in STATUSES:
        width = 100 * counts.get(status, 0) / max(whole, 1)
        if width:
            pieces.append(f'<rect class="{status}" x="{x:.3f}" width="{width:.3f}" height="8"/>')
        x += width
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(pieces)}</svg>"
    )


def histogram(
    bins: Histogram, *, what: str, limits: Sequence[float] = (), series: Sequence[str] = ("",)
) -> Markup:
    """Bars over the range of a measure, and a line at each limit.

    Args:
        bins: Counts by series; those in `series` are stacked in that order.
        what: Of what it is, for the axis and for those who cannot see it.
        limits: Marked with a line and their value.
        series: Names of counts, each drawn in the colour of the class of that name.
    """
    columns = [bins.counts[name] for name in series if name in bins.counts]
    highest = int(max((sum(column) for column in zip(*columns, strict=True)), default=0))
    low, high = number(float(bins.edges[0])), number(float(bins.edges[-1]))
    label = f"{what}: {low} to {high}, at most {highest:,} in one of {bins.num_bins} bars"
    drawn = "".join(_bars(bins, series, highest))
    lines = "".join(
        f'<line class="limit" x1="{100 * bins.place(limit):.3f}" x2="{100 * bins.place(limit):.3f}"'
        f' y1="0" y2="{_HEIGHT}"/>'
        for limit in limits
    )
    flags = "".join(_flag(bins, limit, row) for row, limit in enumerate(limits))
    axis = f"{what}, logarithmic" if bins.logarithmic else what
    return Markup(
        f'<figure class="hist" role="img" aria-label="{html.escape(label)}">'
        f'<div class="plot f{len(limits)}"><span class="peak">{highest:,}</span>{flags}'
        f'<svg viewBox="0 0 100 {_HEIGHT}" preserveAspectRatio="none">{drawn}{lines}</svg></div>'
        f'<figcaption><span>{low}</span><span class="axis">{html.escape(axis)}</span>'
        f"<span>{high}</span></figcaption></figure>"
    )


def _bars(bins: Histogram, series: Sequence[str], highest: int) -> list[str]:
    width = 100 / bins.num_bins
    drawn = []
    base = [0.0] * bins.num_bins
    for name in series:
        for place, count in enumerate(bins.counts.get(name, ())):
            if not count:
                continue
            # one among a million is still seen
            height = max(_HEIGHT * int(count) / max(highest, 1), 1.0)
            y = max(_HEIGHT - base[place] - height, 0.0)
            base[place] += height
            drawn.append(
                f'<rect class="{name or "any"}" x="{place * width + width * 0.06:.3f}" y="{y:.2f}"'
                f' width="{width * 0.88:.3f}" height="{height:.2f}"><title>{_told(bins, place)}: '
                f"{int(count):,}{f' {name}' if name else ''}</title></rect>"
            )
    return drawn


def _told(bins: Histogram, place: int) -> str:
    return f"{number(float(bins.edges[place]))} to {number(float(bins.edges[place + 1]))}"


def _flag(bins: Histogram, limit: float, row: int) -> str:
    """The value of a limit above its line, a row for each; those to the right stand left of it."""
    place = 100 * bins.place(limit)
    side = f"right:{100 - place:.2f}%" if place > 50 else f"left:{place:.2f}%"  # noqa: PLR2004
    top = f"top:{_ROW_REM * row:.2f}rem"
    return f'<span class="flag" style="{side};{top}">limit {measure(limit)}</span>'
