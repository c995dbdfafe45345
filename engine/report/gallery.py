"""Photos with what was kept and what was rejected, drawn and told."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from engine.draw_marks import Rectangle, find_spot
from engine.draw_style import shorten
from engine.report.markup import Markup, attribute, fold, join, measure, said, section, tag, text
from engine.report.photos import ROWS_SHOWN, SIDE, Photo
from engine.report.second import Stratum

Row = Mapping[str, Any]

_LABELS = {"rejected": 8, "kept": 12}  # on one photo; the list beside it names them all
_LABEL_CHARACTERS = 22
_LINES = 4  # of each status in sight; the rest folds out
_DOT = " \u00b7 "
_LINE_HEIGHT = 15  # px of the picture
_CHARACTER_WIDTH = 7.2  # px of the picture, about; a little much, so that labels keep apart
_NOTE = (
    "A random choice, drawn with a fixed seed: photos of every rule and every source in turn. Kept "
    "boxes are green, rejected ones red and dashed."
)
_WHAT = {
    "rule": "rejected by {}",
    "image rule": "image {}",
    "source": "kept of {}",
    "any": "others",
}


def gallery(photos: Sequence[Photo]) -> Markup:
    """The photos, with buttons that show those of one rule or source; none, a sentence."""
    if not photos:
        return section("gallery", "Photos", Markup('<p class="dim">no image to show</p>'))
    strata = list(dict.fromkeys(photo.stratum for photo in photos))
    picks, styles = _picks(strata)
    cards = join(_card(photo, strata.index(photo.stratum)) for photo in photos)
    body = Markup(f'{styles}{picks}<div class="gallery">{cards.html}</div>')
    return section("gallery", "Photos", body, note=_NOTE)


def _picks(strata: Sequence[Stratum]) -> tuple[str, str]:
    """Radio buttons that hide all cards but their own: the page needs no script."""
    names = ["all photos", *(_WHAT[s.what].format(s.name) for s in strata)]
    inputs = "".join(
        f'<input class="pick" type="radio" name="pick" id="pick{place}"'
        f"{' checked' if place == 0 else ''}>"
        for place in range(len(names))
    )
    labels = "".join(
        f'<label for="pick{place}">{text(name, limit=40).html}</label>'
        for place, name in enumerate(names)
    )
    rules = "".join(
        f"#pick{place}:checked~.gallery .photo:not(.s{place - 1}){{display:none}}"
        for place in range(1, len(names))
    )
    chosen = ",".join(
        f"#pick{place}:checked~.picks label[for=pick{place}]" for place in range(len(names))
    )
    focus = ",".join(
        f"#pick{place}:focus-visible~.picks label[for=pick{place}]" for place in range(len(names))
    )
    rules += f"{chosen}{{color:var(--ink);border-color:var(--ink)}}{focus}{{outline:2px solid}}"
    return f'{inputs}<div class="picks">{labels}</div>', f"<style>{rules}</style>"


def _card(photo: Photo, place: int) -> Markup:
    image, totals = photo.image, photo.totals
    size = f"{image['width']} \u00d7 {image['height']} px" if image["width"] else "size unknown"
    counted = _DOT.join(
        f'<span class="t-{name}">{totals[name]:,} {name}</span>'
        for name in ("kept", "rejected", "superseded")
        if totals.get(name)
    )
    title = tag("h3", text(image["uri"] or image["image_key"], limit=80))
    why = "" if image["status"] == "ok" else f" \u00b7 {_image_verdict(image)}"
    order = ("kept", "rejected") if photo.stratum.what == "source" else ("rejected", "kept")
    lists = "".join(_list(photo, name) for name in order)
    licence = f" \u00b7 {text(image['licence'], limit=60).html}" if image["licence"] else ""
    return Markup(
        f'<article class="card photo s{place}">{_shot(photo)}<div class="about">{title.html}'
        f'<div class="dim small">{size}{licence}{why}</div>'
        f'<div class="small">{counted or "no rows"}</div>{lists}</div></article>'
    )


def _image_verdict(image: Row) -> str:
    parts = [text(image["status"]).html]
    parts += [text(image[name], limit=60).html for name in ("rule", "duplicate_of") if image[name]]
    return f'<span class="t-rejected">{" ".join(parts)}{_numbers(image)}</span>'


def _shot(photo: Photo) -> str:
    if photo.picture is None:
        return '<div class="shot"><p class="none">no pixels of this image in the dataset</p></div>'
    width, height = photo.size
    boxes = {status: _boxes(photo, status) for status in ("rejected", "kept")}
    shapes = [_shape(box, rows, status) for status in boxes for box, rows in boxes[status].items()]
    taken: list[Rectangle] = []
    labels = [
        _label(box, rows[0], status, photo.size, taken)
        for status in ("kept", "rejected")  # what is kept chooses first
        for box, rows in list(boxes[status].items())[: _LABELS[status]]
    ]
    alt = attribute(f"{photo.image['uri'] or photo.image['image_key']} with its boxes", limit=120)
    # wide pictures fill the card, tall ones keep to a height that fits a screen
    narrow = f' style="max-width:{100 * width / SIDE:.0f}%"' if width < height else ""
    return (
        f'<div class="shot"><div{narrow}><img src="{photo.picture}" width="{width}" '
        f'height="{height}" alt="{alt}"><svg viewBox="0 0 {width} {height}" aria-hidden="true">'
        f"{''.join(shapes)}{''.join(labels)}</svg></div></div>"
    )


def _boxes(photo: Photo, status: str) -> dict[Rectangle, list[Row]]:
    """The boxes to draw with the rows that share each: a phrase has the box of its region."""
    found: dict[Rectangle, list[Row]] = {}
    rows = sorted(photo.rows[status], key=lambda row: row["kind"] != "region")
    for row in rows:
        box = _drawable(row["box"], photo)
        if box is not None:
            found.setdefault(box, []).append(row)
    return found


def _drawable(box: Sequence[float] | None, photo: Photo) -> Rectangle | None:
    """The box in px of the picture, clipped to it; null where nothing of it can be drawn."""
    if box is None or any(corner is None or not math.isfinite(corner) for corner in box):
        return None
    width, height = photo.size
    x0, y0, x1, y1 = (corner * photo.scale for corner in box)
    x0, x1 = (min(max(x, 1.0), width - 1.0) for x in (x0, x1))
    y0, y1 = (min(max(y, 1.0), height - 1.0) for y in (y0, y1))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _shape(box: Rectangle, rows: Sequence[Row], status: str) -> str:
    x0, y0, x1, y1 = box
    place = f'x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"'
    told = "; ".join(f"{_said(row)} ({row['source']})" for row in rows[:_LINES])
    title = f"<title>{attribute(told, limit=160)}</title>"
    return f'<rect class="halo" {place}/><rect class="{status}" {place}>{title}</rect>'


def _label(
    box: Rectangle, row: Row, status: str, size: tuple[int, int], taken: list[Rectangle]
) -> str:
    """Kept boxes say what they show, rejected ones the rule; none where there is no room."""
    words = _said(row) if status == "kept" else f"\u2715 {row['rule'] or 'rejected'}"
    words = shorten(words[: _LABEL_CHARACTERS * 4], _LABEL_CHARACTERS)
    label = (len(words) * _CHARACTER_WIDTH + 4, _LINE_HEIGHT)
    spot = find_spot(box, label, size, taken)
    if spot is None:
        return ""
    x, y = spot
    taken.append((x, y, x + label[0], y + label[1]))
    where = f'x="{x + 2:.1f}" y="{y + _LINE_HEIGHT - 3:.1f}"'
    return f'<text class="{status}" {where}>{attribute(words)}</text>'


def _list(photo: Photo, status: str) -> str:
    rows = photo.rows[status]
    lines = [_line(row, status, photo.against) for row in rows]
    if not lines:
        return ""
    shown, more = lines[:_LINES], lines[_LINES:]
    left_out = photo.totals.get(status, 0) - len(rows)
    if left_out > 0:
        more.append(
            f'<li class="dim">and {left_out:,} more; the page shows {ROWS_SHOWN} of each image</li>'
        )
    folded = f'<ul class="rows">{"".join(more)}</ul>'
    rest = (
        fold(Markup(f"{len(rows) - _LINES:,} more {status}"), Markup(folded)).html if more else ""
    )
    return f'<ul class="rows">{"".join(shown)}</ul>{rest}'


def _line(row: Row, status: str, against: Mapping[str, str]) -> str:
    score = row["score"] if row["score"] is not None else row["text_score"]
    facts = [text(row["source"] or "no source").html]
    facts += [html.escape(f"{row['kind']} {row['role'] or ''}".strip())]
    facts += [measure(score)] if score is not None else []
    facts += [name for name in ("human",) if row[name]]
    why = ""
    if status == "rejected":
        lost = row["against"]
        comma = "," if _numbers(row) else ""
        winner = f"{comma} against {text(against.get(lost, lost), limit=80).html}" if lost else ""
        why = (
            f'<span class="why"><b class="t-rejected">{text(row["rule"] or "rejected").html}</b>'
            f"{_numbers(row)}{winner}</span>"
        )
    words = said(row["text"]).html
    told = _DOT.join(facts)
    return f'<li class="{status}">{words} <span class="dim small">{told}</span>{why}</li>'


def _numbers(row: Row) -> str:
    names = (name for name in ("measured", "limit") if row[name] is not None)
    told = [f"{name} {measure(row[name])}" for name in names]
    return f" {', '.join(told)}" if told else ""


def _said(row: Row) -> str:
    return str(row["text"] if row["text"] is not None else row["role"] or row["kind"])
