"""What a filter came to, and the versions of a dataset, as tables for the terminal."""

from collections import Counter
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from engine import dataset
from engine.source.shapes import Location
from engine.versions import Version, read_versions

_STATUS = ("kept", "rejected", "superseded")
_MOST = 20  # classes shown; the ledger has them all

Classes = Mapping[tuple[str, str, str], int]


def filter_summary(before: dataset.Totals | None, after: dataset.Totals, classes: Classes) -> Group:
    """Rows by source before and after, rules in order, and the classes that lost most.

    Args:
        before: Of the version that was filtered; null where there was none.
        after: Of what came out.
        classes: Rows of role `category` by source, class and status.
    """
    parts: list[RenderableType] = [_sources(before, after), _rules(after)]
    if classes:
        parts.append(_classes(classes))
    return Group(*parts)


def versions_table(output: Location) -> Table:
    """The label versions of a dataset, and how each differs from its parent."""
    versions, current = read_versions(output)
    table = _table("", ("version", "from", "made by"), ("kept", "rejected", "superseded"))
    table.add_column("what changed", overflow="fold")
    totals = {name: dataset.totals_of(output, name) for name in versions}
    for name, version in versions.items():
        counts = _by_status(totals[name].annotations)
        mark = f"{name} *" if name == current else name
        cells = [mark, version.parent or "-", _made_by(version)]
        cells += [f"{counts[status]:,}" for status in _STATUS]
        table.add_row(*cells, _changed(version, totals, name))
    table.caption = "* current"
    return table


def _made_by(version: Version) -> str:
    return f"{version.made_by} {', '.join(version.only)}" if version.only else version.made_by


def _changed(version: Version, totals: Mapping[str, dataset.Totals], name: str) -> str:
    """How many rows each rule rejects more or fewer than in the version before."""
    if not version.finished:
        return "not finished: the same command finishes it"
    if version.parent is None or version.parent not in totals:
        return "-"
    before, after = totals[version.parent].rules, totals[name].rules
    # the other rules were not asked again, so their verdicts are those of before
    gone = [] if version.only else [rule for rule in before if rule not in after]
    changes = []
    for rule in [*after, *gone]:
        was, now = (rules[rule].rejected if rule in rules else 0 for rules in (before, after))
        if now != was:
            changes.append(f"{rule} {now - was:+,}")
    return f"rejected: {', '.join(changes)}" if changes else "no verdict"


def _by_status(annotations: Mapping[str, int]) -> dict[str, int]:
    counts = dict.fromkeys(_STATUS, 0)
    for name, count in annotations.items():
        counts[name.rpartition("/")[2]] += count
    return counts


def _sources(before: dataset.Totals | None, after: dataset.Totals) -> Table:
    columns = (*(["kept before"] if before else []), *_STATUS)
    table = _table("rows by source", ("source", "kind", "role"), columns)
    old, new = (_groups(t.annotations) if t else {} for t in (before, after))
    for group in sorted(new):
        was = [f"{old.get(group, {}).get('kept', 0):,}"] if before else []
        table.add_row(
            *map(escape, group.split("/")), *was, *(f"{new[group].get(s, 0):,}" for s in _STATUS)
        )
    return table


def _groups(annotations: Mapping[str, int]) -> dict[str, dict[str, int]]:
    groups: dict[str, dict[str, int]] = {}
    for name, count in annotations.items():
        group, _, status = name.rpartition("/")
        groups.setdefault(group, {})[status] = count
    return groups


def _rules(after: dataset.Totals) -> Table:
    table = _table("rules, in order", ("rule",), ("judged", "rejected", "share"))
    for name, count in after.rules.items():
        share = f"{count.rejected / count.judged:.1%}" if count.judged else "-"
        table.add_row(name, f"{count.judged:,}", f"{count.rejected:,}", share)
    return table


def _classes(classes: Classes) -> Table:
    groups: dict[tuple[str, str], Counter[str]] = {}
    for (source, text, status), count in classes.items():
        groups.setdefault((source, text), Counter())[status] += count
    ranked = sorted(groups.items(), key=lambda item: (-item[1]["rejected"], item[0]))
    title = "classes" if len(ranked) <= _MOST else f"the {_MOST} classes that lost most"
    table = _table(title, ("source", "class"), _STATUS)
    for (source, text), counts in ranked[:_MOST]:
        # as Text: a class is data, and rich would read brackets as markup
        table.add_row(Text(source), Text(text), *(f"{counts[s]:,}" for s in _STATUS))
    return table


def _table(title: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=None,
        header_style="dim",
    )
    for word in words:
        table.add_column(word, overflow="fold")
    for number in numbers:
        table.add_column(number, justify="right")
    return table
