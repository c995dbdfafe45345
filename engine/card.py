"""The card of a dataset: what it holds, from where, by which rules, and how it is loaded.

Every fact is counted from the dataset or read from what its run wrote down; what nobody said is
called unknown.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from engine.ancestry import ancestors, find_version, pixel_version
from engine.card_head import front_matter
from engine.dataset import read_dataset
from engine.errors import ConfigError
from engine.output import read_if_there
from engine.report.counts import Counts, count_version
from engine.report.markup import plain
from engine.sink import ShardFiles
from engine.source.shapes import Location

CARD = "README.md"
# The last line: tells a card that nobody has changed from one that somebody worked on.
_SEAL_STARTS = "\n<!-- written by fld, "
_SEAL = _SEAL_STARTS + "{} -->\n"
_STATUSES = ("kept", "rejected", "superseded")
_CLASSES = 20
_LICENCES = 50
_OPTION_CHARACTERS = 160
# No mark of Markdown's in it; an underscore inside of a word is none.
_SIMPLE = re.compile(r"[A-Za-z0-9 ,.-]*(?:(?<=[A-Za-z0-9])_(?=[A-Za-z0-9])[A-Za-z0-9 ,.-]*)*")


def write_card(output: Location, version: str | None = None) -> str:
    """Writes `README.md` into the dataset, about one label version; its finished shards count.

    The head is what the Hugging Face hub reads. The same dataset gives the same card.

    Args:
        output: The dataset's.
        version: Null for the current one.

    Returns:
        Where it was written.

    Raises:
        ConfigError: No dataset there, no such version, or a `README.md` that somebody else wrote or
            has changed since.
    """
    content = read_dataset(output)
    name = find_version(output, content, version)
    counts, versions = count_version(output, name), ancestors(content, name)
    parts = [
        front_matter(name, counts, [entry["licence"] for entry in _licensed(counts)]),
        _summary(content, name, counts),
        _contents(counts),
        _classes(counts),
        _licences(counts),
        _sources(content),
        _models(counts),
        _rules(content, name, counts),
        _limits(content, counts),
        _loading(output, versions, counts),
    ]
    _check_ours(output)
    text = "\n\n".join(part for part in parts if part) + "\n"
    card = text.encode("utf-8", "replace")
    output.write(CARD, card + _SEAL.format(_digest(card)).encode())
    return f"{output.uri.rstrip('/')}/{CARD}"


def _check_ours(output: Location) -> None:
    """Refuses to write over a card that people have written or changed."""
    raw = read_if_there(output, CARD)
    if raw is None:
        return
    body, mark, seal = raw.to_pybytes().rpartition(_SEAL_STARTS.encode())
    if not mark or mark + seal != _SEAL.format(_digest(body)).encode():
        raise ConfigError(
            f"{output.uri}: {CARD} is there and is not as it was written here; move it away, or "
            "take from it what you want to keep and delete it"
        )


def _digest(card: bytes) -> str:
    return hashlib.blake2b(card, digest_size=8).hexdigest()


def _summary(content: Mapping[str, Any], name: str, counts: Counts) -> str:
    status = Counter({key[0]: count for key, count in counts.by("status").items()})
    entry = content["versions"][name]
    came = f", from {_code(entry['parent'])}" if entry.get("parent") else ""
    lines = [
        f"# Images with labels, version {_code(name)}",
        "",
        f"{counts.images['ok']:,} images with {status['kept']:,} annotations. Every claim an "
        "annotator made is in the tables with a verdict: "
        + ", ".join(f"{status[s]:,} {s}" for s in _STATUSES)
        + ". A rejected row names the rule, what it measured and the limit.",
        "",
        f"Made by {_code(entry.get('made_by') or 'unknown')}{came}; config digest "
        f"{_code(content.get('digest') or 'unknown')}.",
    ]
    return "\n".join(lines)


def _contents(counts: Counts) -> str:
    groups: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for (kind, role, source, status), n in counts.by("kind", "role", "source", "status").items():
        groups[kind, role, source][status] += n
    rows = [
        [_cell(kind), _cell(role), _cell(source), *(f"{group[s]:,}" for s in _STATUSES)]
        for (kind, role, source), group in sorted(groups.items(), key=lambda item: str(item[0]))
    ]
    return _section("What is in it", _table(["kind", "role", "source", *_STATUSES], rows, words=3))


def _classes(counts: Counts) -> str:
    kept = [entry for entry in counts.classes.top(1_000) if entry["kept"]]
    kept.sort(key=lambda entry: -entry["kept"])
    rows = [[_cell(entry["text"]), f"{entry['kept']:,}"] for entry in kept[:_CLASSES]]
    if not rows:
        return ""
    lead = f"The most frequent of {len(counts.classes):,} texts of regions with role `category`."
    return _section("Classes", lead, _table(["class", "kept"], rows))


def _licences(counts: Counts) -> str:
    found = _licensed(counts)
    rows = [
        [_cell(entry["licence"]) if entry["licence"] else "unknown", f"{entry['ok']:,}"]
        for entry in found[:_LICENCES]
    ]
    lead = (
        "Of each image, as its source named it; the column `licence` of the images table has them "
        "one by one. Nobody checked them. The dataset says nothing of a licence of the labels."
    )
    rest = len(found) - _LICENCES
    more = f"\n\nAnd {rest:,} more." if rest > 0 else ""
    return _section("Licences", lead, _table(["licence", "images"], rows) + more)


def _licensed(counts: Counts) -> list[dict[str, Any]]:
    """Licences of the images that are in the dataset, the frequent first."""
    found = [entry for entry in counts.licences.top(len(counts.licences)) if entry["ok"]]
    return sorted(found, key=lambda entry: -entry["ok"])


def _sources(content: Mapping[str, Any]) -> str:
    parts = content.get("sources") or [content.get("source") or {}]
    rows = [
        [
            _cell(_public(part.get("uri")) or "unknown"),
            _cell(part.get("name") or ""),
            _cell(part.get("kind") or "unknown"),
            _cell(part.get("licence") or "not said for all"),
        ]
        for part in parts
    ]
    return _section(
        "Where the images are from", _table(["place", "name", "kind", "licence"], rows, words=4)
    )


def _public(uri: str | None) -> str | None:
    """Of a place on somebody's disk the last name alone."""
    if uri is None or ("://" in uri and not uri.startswith("file://")):
        return uri
    return PurePosixPath(uri.removeprefix("file://")).name or "."


def _models(counts: Counts) -> str:
    groups: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for (*who, status), n in counts.models.items():
        groups[tuple(who)][status] += n
    rows = [
        [
            _cell(source),
            "people" if human else _cell(model or "unknown"),
            "" if human and revision is None else _cell(revision or "unknown"),
            f"{group['kept']:,}",
            f"{sum(group.values()):,}",
        ]
        for (source, model, revision, human), group in sorted(groups.items(), key=str)
    ]
    return _section(
        "Who said it", _table(["source", "model", "revision", "kept", "all"], rows, words=3)
    )


def _rules(content: Mapping[str, Any], name: str, counts: Counts) -> str:
    """The rules of the version, where it says them, else those of the run that made the first."""
    entry = content["versions"][name]
    known: Any = entry.get("rules")
    if known is None and entry.get("parent") is None:
        known = (content.get("identity") or {}).get("rules")
    options: dict[str, list[str]] = defaultdict(list)
    for rule in known or ():
        rest = {key: value for key, value in rule.items() if key not in ("rule", "alarm_share")}
        options[str(rule.get("rule"))].append(_options(rest))
    names = dict.fromkeys([*options, *counts.totals.rules, *counts.rules])
    rows = []
    for rule in names:
        told = counts.totals.rules.get(rule)
        rejected = counts.rules[rule].rejected if rule in counts.rules else 0
        judged = f"{told.judged:,}" if told else "unknown"
        limits = "<br>".join(filter(None, options.get(rule, ())))
        rows.append([_cell(rule), limits, judged, f"{rejected:,}"])
    if not rows:
        return _section("Rules", "No rule judged the rows.")
    headings = ["rule", "options", "rows judged", "rejected"]
    return _section("Rules", "In the order in which they judge.", _table(headings, rows, words=2))


def _options(options: Mapping[str, Any]) -> str:
    told = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in options.items()]
    return _code(plain(", ".join(told), limit=_OPTION_CHARACTERS)) if told else ""


def _limits(content: Mapping[str, Any], counts: Counts) -> str:
    """What a user must know, each sentence only where it is so."""
    kept = Counter[bool]()
    for (_, _, _, human, status), n in counts.models.items():
        kept[bool(human)] += n if status == "kept" else 0
    unknown = sum(entry["ok"] for entry in _licensed(counts) if not entry["licence"])
    planned = content.get("shards", len(counts.shards))
    gone = {s: counts.images[s] for s in ("failed", "duplicate", "rejected") if counts.images[s]}
    told = [
        "Kept means that no rule rejected a row, not that somebody found it right.",
        f"{kept[False]:,} of {sum(kept.values()):,} kept rows were said by models, not by people."
        if kept[False]
        else "",
        f"{unknown:,} of {counts.images['ok']:,} images are of unknown licence." if unknown else "",
        f"Left out of {counts.num_images:,} images: "
        + ", ".join(f"{n:,} {status}" for status, n in gone.items())
        + "; they are in the images table with the reason."
        if gone
        else "",
        f"Not finished: {len(counts.shards):,} of {planned:,} shards are counted here."
        if len(counts.shards) < planned
        else "",
    ]
    return _section("Known limits", "\n".join(f"- {line}" for line in told if line))


def _loading(output: Location, versions: Sequence[str], counts: Counts) -> str:
    if not counts.shards:
        return _section("How to load it", "There is no finished shard yet.")
    name, first = versions[0], ShardFiles(counts.shards[0])
    last = counts.shards[-1]
    whole = len(counts.shards) == last - first.shard + 1
    numbers = f"{{{first.shard:06d}..{last:06d}}}" if whole else f"{first.shard:06d}"
    pixels = pixel_version(output, versions, counts.shards[0])
    form = "" if pixels else ', image="none"'
    tars = f"{pixels or name}/{numbers}.tar"
    blocks = [
        "In the folder of the dataset. Boxes are x_min, y_min, x_max, y_max in pixels of the "
        "upright image.",
        "Images and labels joined:",
        _python(
            "from engine.load import load\n",
            f'for sample in load(".", "{name}"{form}):',
            '    print(sample["image_key"], sample["regions"]["box"].shape)',
            "    break",
        ),
        "The tables, every claim with its verdict:",
        _python(
            "import pandas\n",
            f'rows = pandas.read_parquet("{name}/{first.annotations}")',
            'print(rows[rows["status"] == "kept"].head())',
        ),
        f"As WebDataset{'' if pixels else ', labels alone'}:",
        _python(
            "import webdataset\n",
            f'samples = webdataset.WebDataset("{tars}", shardshuffle=False)',
            'for sample in samples.decode("pil"):',
            '    print(sample["__key__"], sample["json"]["image"])',
            "    break",
        ),
    ]
    if pixels not in (None, name):
        blocks.append(
            f"The tars of {_code(name)} hold labels alone: the pictures are in those of "
            f"{_code(pixels)}, whose json is that version's."
        )
    return _section("How to load it", *blocks)


def _python(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])


def _section(title: str, *parts: str) -> str:
    return "\n\n".join([f"## {title}", *parts])


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if not lines:
        return "None."
    marks = ["---" if place < words else "---:" for place in range(len(headings))]
    return "\n".join([f"| {' | '.join(headings)} |", f"| {' | '.join(marks)} |", *lines])


def _cell(value: object) -> str:
    """Text from data in a table: as it is where Markdown takes it for text, else as code."""
    line = plain("" if value is None else value, limit=120)
    return line if _SIMPLE.fullmatch(line) else _code(line)


def _code(value: object) -> str:
    """Text from data as code: without the marks that would end it, or a cell."""
    return f"`{plain(value, limit=200).replace('`', chr(39)).replace('|', chr(0xA6))}`"
