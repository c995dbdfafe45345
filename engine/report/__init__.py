"""`fld report`: one HTML page that says what a label version holds, and why the rest is not in it.

The page is one file without script or network: whoever has it can read it, anywhere.
"""

import html
from collections.abc import Mapping
from typing import Any

from engine.ancestry import ancestors, find_version
from engine.dataset import read_dataset
from engine.report.counts import Counts, count_version
from engine.report.gallery import gallery
from engine.report.markup import Markup, join, text
from engine.report.photos import read_photos
from engine.report.second import look_again
from engine.report.sections import (
    classes_section,
    failures_section,
    headline,
    images_section,
    licences_section,
    made_section,
    rows_section,
    rules_section,
)
from engine.report.style import CSS, POLICY
from engine.source.shapes import Location

REPORTS = "_run/reports"
NUM_PHOTOS = 24  # some 2 MB of page
_NAV = {
    "rows": "Rows",
    "classes": "Classes",
    "rules": "Rejections",
    "images": "Images",
    "failures": "Failures",
    "licences": "Licences",
    "gallery": "Photos",
    "made": "How it was made",
}


def write_report(
    output: Location, version: str | None = None, *, num_photos: int = NUM_PHOTOS, seed: int = 0
) -> str:
    """Writes the page of a label version into the dataset; finished shards alone are counted.

    Memory does not grow with the dataset: shards are read twice, a batch of rows at a time.

    Args:
        output: The dataset's.
        version: Null for the current one.
        num_photos: In the gallery, at most.
        seed: Of the choice of photos.

    Returns:
        Where it was written: the dataset's uri and `_run/reports/VERSION.html`.

    Raises:
        ConfigError: No dataset there, or no such version.
    """
    content = read_dataset(output)
    name = find_version(output, content, version)
    counts = count_version(output, name)
    second = look_again(output, name, counts, seed=seed)
    versions = ancestors(content, name)
    photos = read_photos(output, versions, second.sample.take(num_photos))
    parts = [
        rows_section(counts),
        classes_section(counts),
        rules_section(counts, second),
        images_section(counts, second),
        failures_section(counts),
        licences_section(counts),
        gallery(photos),
        made_section(content, versions, counts),
    ]
    path = f"{REPORTS}/{name}.html"
    page = _page(_header(output, content, name, counts), join(parts), f"{name}: {output.uri}")
    output.write(path, page.encode("utf-8", "replace"))
    return f"{output.uri.rstrip('/')}/{path}"


def _header(output: Location, content: Mapping[str, Any], name: str, counts: Counts) -> Markup:
    entry = content["versions"][name]
    made_by = text(entry.get("made_by") or "unknown").html
    parent = f", from {text(entry['parent']).html}" if entry.get("parent") else ""
    planned = content.get("shards", len(counts.shards))
    warning = ""
    if len(counts.shards) < planned:
        warning = (
            f'<p class="warn">Not finished: {len(counts.shards):,} of {planned:,} shards are '
            "counted here.</p>"
        )
    current = " \u00b7 current" if content.get("current") == name else ""
    return Markup(
        f"<header><h1>{text(name).html}</h1><div>{text(output.uri).html}</div>"
        f'<div class="dim small">made by {made_by}{parent}{current} \u00b7 {len(counts.shards):,} '
        f"shards</div>{warning}{headline(counts).html}</header>"
    )


def _page(header: Markup, body: Markup, title: str) -> str:
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in _NAV.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title><style>{CSS}</style></head><body>{header.html}"
        f"<nav><div>{links}</div></nav><main>{body.html}</main>"
        "<footer>Written by fld report. This page is one file; it loads nothing.</footer>"
        "</body></html>\n"
    )
