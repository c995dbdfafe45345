"""Label members of a WebDataset sample without the texts that were rejected."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.source.labels import Labels


@dataclass(frozen=True)
class Kept:
    """What is kept of one sample.

    Attributes:
        texts: What its kept text rows say.
        ids: Ids its kept rows have in a nested view.
    """

    texts: frozenset[str]
    ids: frozenset[str]


def thinned(name: str, content: bytes, labels: Labels, kept: Kept) -> bytes | None:
    """A label member with what is kept: as it was, less, or null where nothing is left of it.

    What makes no row (other members of a JSON object, a text that is blank, anything that cannot be
    read) stays as it is.

    Args:
        name: Of the field, as `json` or `txt`.
        content: Its bytes.
        labels: How it was read.
        kept: Of this sample.
    """
    rows = labels.read({name: content}).rows
    if any("annotation_id" in row for row in rows):
        if all(row["annotation_id"] in kept.ids for row in rows):
            return content
        return _thinned_view(json.loads(content.decode("utf-8-sig")), kept.ids)
    if all(row["text"] in kept.texts for row in rows):
        return content
    return _thinned_object(content, labels, kept.texts) if name == "json" else None


def _thinned_object(content: bytes, labels: Labels, texts: frozenset[str]) -> bytes:
    """The JSON object without the rejected texts; every other member is spelt as it was."""
    raw = msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"), type=dict[str, msgspec.Raw])
    spelt: dict[str, str] = {}
    for name, value in raw.items():
        said = msgspec.json.decode(value) if name in labels.fields else None
        if isinstance(said, list):
            left = [one for one in said if _is_kept(name, [one], labels, texts)]
            text = bytes(value).decode()
            spelt[name] = text if left == said else json.dumps(left, ensure_ascii=False)
        elif said is None or _is_kept(name, said, labels, texts):
            spelt[name] = bytes(value).decode()
    pairs = (f"{json.dumps(name, ensure_ascii=False)}: {value}" for name, value in spelt.items())
    return ("{" + ", ".join(pairs) + "}").encode()


def _is_kept(name: str, value: Any, labels: Labels, texts: frozenset[str]) -> bool:
    return all(row["text"] in texts for row in labels.read({"json": {name: value}}).rows)


def _thinned_view(view: Mapping[str, Any], ids: frozenset[str]) -> bytes:
    """Our own nested view of an image without the rejected rows; a region without words goes."""
    regions = [
        {**region, "texts": [said for said in region["texts"] if said["annotation_id"] in ids]}
        for region in view["regions"]
    ]
    left = {
        **view,
        "texts": [said for said in view["texts"] if said["annotation_id"] in ids],
        "regions": [region for region in regions if region["texts"]],
        "grounding": [said for said in view["grounding"] if said["annotation_id"] in ids],
    }
    return json.dumps(left, ensure_ascii=False, separators=(",", ":")).encode()
