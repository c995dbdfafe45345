"""The parts of the page that tell numbers."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from engine.failures import CAUSES
from engine.report.charts import STATUSES, bar, histogram
from engine.report.counts import Counts, Ruled
from engine.report.markup import (
    Cell,
    Markup,
    fold,
    join,
    measure,
    said,
    section,
    share,
    table,
    tag,
    text,
)
from engine.report.second import Second, shown_limits

_CLASSES = 100
_CLASSES_IN_SIGHT = 15
_TERMS = 12
_LIMITS = 6
_LICENCES = 30
_LEGEND = Markup(
    '<div class="legend">'
    + "".join(f'<span><i class="{name}"></i>{name}</span>' for name in STATUSES)
    + "</div>"
)
_UNITS = {
    "megapixels": "megapixels",
    "longer side": "longer side, px",
    "aspect": "width / height",
    "kilobytes": "size of the file, kB",
    "sharpness": "sharpness",
    "contrast": "contrast",
}


def headline(counts: Counts) -> Markup:
    """The numbers to remember."""
    status = Counter({name[0]: count for name, count in counts.by("status").items()})
    ok, rows = counts.images["ok"], counts.num_rows
    failures = sum(failed.count for failed in counts.failures.values())
    tiles = [
        (f"{ok:,}", f"images ok, of {counts.num_images:,}", ""),
        (f"{rows:,}", f"rows, {rows / ok:.1f} an image" if ok else "rows", ""),
        (f"{status['kept']:,}", f"kept, {share(status['kept'], rows)}", "kept"),
        (f"{status['rejected']:,}", f"rejected, {share(status['rejected'], rows)}", "rejected"),
        (f"{status['superseded']:,}", f"superseded, {share(status['superseded'], rows)}", ""),
        (f"{failures:,}", "failures", "rejected" if failures else ""),
    ]
    inner = "".join(
        f'<div class="tile {css}"><b>{value}</b><span>{what}</span></div>'
        for value, what, css in tiles
    )
    return Markup(f'<div class="tiles">{inner}</div>')


def rows_section(counts: Counts) -> Markup:
    """Rows by kind, role, source and status, and how sure the sources were."""
    groups: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for (kind, role, source, status), count in counts.by(
        "kind", "role", "source", "status"
    ).items():
        groups[kind, role, source][status] += count
    largest = max((sum(group.values()) for group in groups.values()), default=0)
    lines = []
    for (kind, role, source), group in sorted(groups.items(), key=lambda item: str(item[0])):
        cells: list[Cell] = [text(f"{kind} {role or ''}"), text(source or "not said")]
        lines.append([*cells, *(group.get(name, 0) for name in STATUSES), bar(group, largest)])
    headings = ["what", "source", *STATUSES, ""]
    parts = [table(headings, lines, words=2), _LEGEND]
    scores = [
        _card(
            text(name),
            histogram(bins, what="score of the box", series=STATUSES),
        )
        for name, bins in sorted(counts.scores.items())
    ]
    if scores:
        parts.append(Markup(f'<div class="cards">{join(scores).html}</div>'))
    note = "Every claim is a row, written once; a version keeps, rejects or supersedes it."
    return section("rows", "Rows", *parts, note=note)


def classes_section(counts: Counts) -> Markup:
    """The most frequent classes of regions."""
    top = counts.classes.top(_CLASSES)
    largest = max((sum(entry[name] for name in STATUSES) for entry in top), default=0)
    lines = [
        [said(entry["text"], limit=60), *(entry[name] for name in STATUSES), bar(entry, largest)]
        for entry in top
    ]
    note = f"Regions of role category: {len(counts.classes):,} different texts"
    shown, more = lines[:_CLASSES_IN_SIGHT], lines[_CLASSES_IN_SIGHT:]
    if counts.classes.error:
        note += f" are held in memory, so counts may be up to {counts.classes.error:,} too low"
    if len(top) < len(counts.classes):
        note += f"; the {len(top)} most frequent"
    headings = ["class", *STATUSES, ""]
    parts = [table(headings, shown)]
    parts += [fold(Markup(f"{len(more)} more classes"), table(headings, more))] if more else []
    return section("classes", "Classes", *parts, note=note + ".")


def rules_section(counts: Counts, second: Second) -> Markup:
    """Each rule: how many it judged and rejected, of whom, and what it measured."""
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    for (rule, source, status), count in counts.by("rule", "source", "status").items():
        if status == "rejected":
            sources[str(rule)][str(source)] += count
    names = [*counts.totals.rules, *(n for n in counts.rules if n not in counts.totals.rules)]
    quiet = [name for name in names if name not in counts.rules]
    cards = [_rule_card(n, counts, second, sources[n]) for n in names if n not in quiet]
    cards += [_image_rule_card(name, rule, second) for name, rule in counts.image_rules.items()]
    parts = [Markup(f'<div class="cards">{join(cards).html}</div>')] if cards else []
    if quiet:
        judged = (f"{text(n).html} ({counts.totals.rules[n].judged:,} judged)" for n in quiet)
        parts.append(Markup(f'<p class="dim">Rejected nothing: {", ".join(judged)}.</p>'))
    if not names and not cards:
        parts.append(Markup('<p class="dim">no rules</p>'))
    note = "In the order in which they judged. The bars are the rejected rows alone."
    return section("rules", "Rejections by rule", *parts, note=note)


def _rule_card(name: str, counts: Counts, second: Second, sources: Counter[str]) -> Markup:
    rule = counts.rules[name]
    told = counts.totals.rules.get(name)
    judged = f" of {told.judged:,} judged, {share(rule.rejected, told.judged)}" if told else ""
    lines: list[list[Cell]] = [[text(source), count] for source, count in sources.most_common(8)]
    return _card(
        text(name),
        Markup(f'<p><b class="t-rejected">{rule.rejected:,}</b> rejected{judged}</p>'),
        _measured(rule, second.rules.get(name)),
        table(["source", "rejected"], lines),
    )


def _image_rule_card(name: str, rule: Ruled, second: Second) -> Markup:
    return _card(
        text(name),
        Markup(f'<p><b class="t-rejected">{rule.rejected:,}</b> images</p>'),
        _measured(rule, second.image_rules.get(name)),
    )


def _measured(rule: Ruled, bins: Any) -> Markup:
    parts = []
    limits = shown_limits(rule)
    if bins is not None:
        parts.append(histogram(bins, what="measured", limits=limits))
    if rule.measured.num_other:
        note = f"{rule.measured.num_other:,} measured no number"
        parts.append(tag("p", note, css="dim small"))
    if len(rule.limits) > 1:
        told = [f"{measure(e['limit'])} ({e['rejected']:,})" for e in rule.limits.top(_LIMITS)]
        more = f" and {len(rule.limits) - _LIMITS} more" if len(rule.limits) > _LIMITS else ""
        parts.append(tag("p", f"limits: {', '.join(told)}{more}", css="dim small"))
    terms = rule.terms.top(_TERMS)
    if terms:
        lines = [[said(entry["against"], limit=60), entry["rejected"]] for entry in terms]
        parts.append(table(["against", "rejected"], lines))
    return join(parts)


def failures_section(counts: Counts) -> Markup:
    """Every cause of failure with what it means and examples."""
    lines: list[list[Cell]] = []
    by_count = sorted(counts.failures.items(), key=lambda item: (-item[1].count, str(item[0])))
    for (stage, source, cause), failed in by_count:
        who = f"{stage} / {source}" if source else stage
        examples = "".join(
            f"<div>{text(e['uri'] or e['image_key'], limit=120).html} "
            f'<span class="dim">{text(e["message"] or "", limit=200).html}</span></div>'
            for e in failed.examples
        )
        meaning = Markup(
            f"{text(cause).html}<div class=dim>{text(CAUSES.get(cause, '')).html}</div>"
        )
        lines.append(
            [text(who), meaning, Markup(f'<div class="small">{examples}</div>'), failed.count]
        )
    if not lines:
        return section("failures", "Failures", Markup('<p class="dim">none</p>'))
    headings = ["stage", "cause", "examples", "count"]
    return section("failures", "Failures", table(headings, lines, words=3))


def images_section(counts: Counts, second: Second) -> Markup:
    """Images by status and format, and their measures."""
    status: list[list[Cell]] = [[text(name), count] for name, count in counts.images.most_common()]
    status.append([text("duplicate of another"), counts.num_duplicates])
    formats: list[list[Cell]] = [
        [text(name) if name else Markup('<span class="dim">not known</span>'), count]
        for name, count in counts.formats.most_common()
    ]
    cards = [
        _card(Markup("By status"), table(["status", "images"], status)),
        _card(Markup("By format"), table(["format", "images"], formats)),
        *(
            _card(Markup(name.capitalize()), histogram(bins, what=_UNITS[name]))
            for name, bins in second.images.items()
        ),
    ]
    return section("images", "Images", Markup(f'<div class="cards">{join(cards).html}</div>'))


def licences_section(counts: Counts) -> Markup:
    """Licences as the source named them."""
    top = counts.licences.top(_LICENCES)
    lines = [
        [
            text(entry["licence"])
            if entry["licence"]
            else Markup('<span class="dim">unknown</span>'),
            entry["ok"],
            entry["ok"] + entry["others"],
            share(entry["ok"] + entry["others"], counts.num_images),
        ]
        for entry in top
    ]
    note = "As the source named them, image by image."
    if len(top) < len(counts.licences):
        note += f" The {len(top)} most frequent of {len(counts.licences):,}."
    parts = table(["licence", "ok", "all", "share"], lines)
    return section("licences", "Licences", parts, note=note)


def made_section(content: Mapping[str, Any], versions: Sequence[str], counts: Counts) -> Markup:
    """Where the version came from: its parents, models, rules and the digest of its config."""
    lines: list[list[Cell]] = []
    for name in versions:
        entry = content["versions"][name]
        others = {k: v for k, v in entry.items() if k not in ("parent", "made_by")}
        made_by = str(entry.get("made_by") or "not said")
        cells = [text(name), text(entry.get("parent") or "\u2013"), text(made_by)]
        lines.append([*cells, _json(others) if others else Markup("")])
    parts = [table(["version", "from", "made by", ""], lines, words=4)]
    rows: Counter[tuple[Any, ...]] = Counter()
    for (*who, _), count in counts.models.items():
        rows[tuple(who)] += count
    models: list[list[Cell]] = [
        [text(source), text(model or "\u2013"), text(revision or "\u2013"), _by(human), count]
        for (source, model, revision, human), count in rows.most_common(100)
    ]
    headings = ["source", "model", "revision", "", "rows"]
    parts.append(table(headings, models, words=4))
    identity = content.get("identity") or {}
    parts += [
        fold(Markup(f"{what} of the first run"), _json(identity[what]))
        for what in ("rules", "specialists", "source")
        if identity.get(what)
    ]
    digest = content.get("digest") or "not said"
    parts.append(Markup(f'<p class="dim">config digest {text(digest).html}</p>'))
    return section("made", "How it was made", *parts)


def _by(human: bool | None) -> str:
    return "people" if human else ""


def _json(content: Any) -> Markup:
    spelled = json.dumps(content, ensure_ascii=False, indent=1)
    if isinstance(content, list):
        spelled = "\n".join(json.dumps(entry, ensure_ascii=False) for entry in content)
    return tag("pre", text(spelled, limit=20_000))


def _card(title: Markup, *parts: Markup) -> Markup:
    return Markup(f'<div class="card">{tag("h3", title).html}{join(parts).html}</div>')
