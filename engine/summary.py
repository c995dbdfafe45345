"""What a run leaves on the screen: totals as tables, and what to do next."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text


def summary(status: dict[str, Any], output_uri: str) -> Group:
    """Tables of images, rows by source, rules and failures of `engine.status.read_status`."""
    parts: list[RenderableType] = [_images(status), _rows(status["annotations"])]
    if status["rules"]:
        parts.append(_rules(status["rules"]))
    if status["failures"]:
        parts.append(_failures(status["failures"]))
    if status["last"].get("usage"):
        parts.append(_usage(status["last"]["usage"]))
    parts.extend(Text.from_markup(line) for line in next_steps(status, output_uri))
    return Group(*parts)


def next_steps(status: dict[str, Any], output_uri: str) -> Iterator[str]:
    """What a user would do next, as command lines in rich's markup."""
    output_uri = escape(output_uri)
    if status["state"] == "interrupted":
        yield (
            "[bold]Not finished:[/] run the same `fld annotate` command again; it goes on where "
            "it stopped."
        )
    if status["failures"]:
        yield (
            f"Failures: `fld failures {output_uri}` names them; `--retry-failed` takes only those."
        )
    if status["images"].get("ok"):
        yield f"Look: `fld inspect {output_uri} --draw sheet.png`, or one image by its key."


def _images(status: dict[str, Any]) -> Text:
    images, shards = status["images"], status["shards"]
    counts = ", ".join(
        f"{images.get(n, 0):,} {n}" for n in ("ok", "failed", "duplicate", "rejected")
    )
    return Text(
        f"{status['state']}: {shards['done']:,} of {shards['planned']:,} shards; "
        f"{images['planned']:,} images planned: {counts}"
    )


def _rows(annotations: dict[str, int]) -> Table:
    table = _table("rows by source", ("source", "kind", "role"), ("kept", "rejected", "superseded"))
    groups: dict[str, dict[str, int]] = {}
    for name, count in annotations.items():
        group, _, state = name.rpartition("/")
        groups.setdefault(group, {})[state] = count
    for group, counts in sorted(groups.items()):
        source, kind, role = group.split("/")
        table.add_row(source, kind, role, *_numbers(counts, ("kept", "rejected", "superseded")))
    return table


def _rules(rules: dict[str, list[int]]) -> Table:
    table = _table("rules, in order", ("rule",), ("judged", "rejected", "share"))
    for name, (judged, rejected) in rules.items():
        share = f"{rejected / judged:.1%}" if judged else "-"
        table.add_row(name, f"{judged:,}", f"{rejected:,}", share)
    return table


def _failures(failures: dict[str, int]) -> Table:
    table = _table("failures", ("stage or specialist", "cause"), ("images",))
    for name, count in sorted(failures.items(), key=lambda item: -item[1]):
        table.add_row(*name.rsplit("/", 1), f"{count:,}")
    return table


def _usage(usage: dict[str, dict[str, int]]) -> Table:
    table = _table("spent by the last run", ("specialist", "unit"), ("count",))
    for name, units in usage.items():
        for unit, count in units.items():
            table.add_row(name, unit, f"{count:,}")
    return table


def _table(title: str, words: Iterable[str], numbers: Iterable[str]) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, header_style="dim"
    )
    for word in words:
        table.add_column(word)
    for number in numbers:
        table.add_column(number, justify="right")
    return table


def _numbers(counts: dict[str, int], names: Iterable[str]) -> list[str]:
    return [f"{counts[name]:,}" if name in counts else "-" for name in names]
