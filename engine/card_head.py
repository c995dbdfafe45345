"""The head of a dataset card: what the Hugging Face hub reads, in the hub's own words."""

import re
from collections.abc import Sequence

import yaml

from engine.report.counts import Counts

# The size categories of the Hugging Face hub: up to, and name.
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
)
_LARGEST = "n>1B"
# What the hub calls the tasks that rows of a kind and role serve.
_TASKS = {
    ("text", None): "image-to-text",
    ("region", "category"): "object-detection",
    ("region", "phrase"): "zero-shot-object-detection",
    ("region", "ocr"): "image-to-text",
    ("grounding", None): "zero-shot-object-detection",
}
_CREATIVE_COMMONS = re.compile(
    r"creativecommons\.org/licenses/((?:by|nc|nd|sa)(?:-(?:by|nc|nd|sa))*)/(\d\.\d)", re.IGNORECASE
)
_PUBLIC_DOMAIN = re.compile(r"creativecommons\.org/publicdomain/zero/1\.0", re.IGNORECASE)
# Names that are the hub's own already.
_HUB = re.compile(
    r"(?:cc-by(?:-(?:nc|nd|sa))*-\d\.\d|cc0-1\.0|mit|apache-2\.0|odc-by|odbl|pddl|unlicense)"
)


def front_matter(name: str, counts: Counts, licences: Sequence[str | None]) -> str:
    """YAML between two lines of dashes.

    Args:
        name: Of the label version.
        counts: Of it.
        licences: Of its images, as their sources named them, the frequent first.
    """
    tasks = {
        task
        for (kind, role, status) in counts.by("kind", "role", "status")
        if status == "kept" and (task := _TASKS.get((kind, role)) or _TASKS.get((kind, None)))
    }
    if counts.has_polygons:
        tasks.add("image-segmentation")
    ok = counts.images["ok"]
    size = next((named for limit, named in _SIZES if ok < limit), _LARGEST)
    tables = [
        {"config_name": table, "data_files": f"{name}/*.{table}.parquet"}
        for table in ("annotations", "images")
    ]
    head = {
        "license": list(dict.fromkeys(map(hub_licence, licences))) or ["unknown"],
        **({"task_categories": sorted(tasks)} if tasks else {}),
        "size_categories": [size],
        "tags": ["webdataset"],
        **({"configs": tables} if counts.shards else {}),
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---"


def hub_licence(licence: str | None) -> str:
    """What the Hugging Face hub calls a licence: its identifier, `other`, or `unknown` for none.

    Example:
        >>> hub_licence("http://creativecommons.org/licenses/by-nc/2.0/")
        'cc-by-nc-2.0'
    """
    if not licence or not licence.strip():
        return "unknown"
    if found := _CREATIVE_COMMONS.search(licence):
        return f"cc-{found[1]}-{found[2]}".lower()
    if _PUBLIC_DOMAIN.search(licence):
        return "cc0-1.0"
    named = licence.strip().lower()
    return named if _HUB.fullmatch(named) else "other"
