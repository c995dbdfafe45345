"""Sources of images: what a config's `source` names, opened."""

from dataclasses import fields
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any

from engine.errors import ConfigError
from engine.registry import Registry
from engine.source.shapes import Source

# The fields of a class are the options of its kind.
SOURCES = Registry(
    "source.kind",
    {
        "images": "engine.source.images:Images",
        "webdataset": "engine.source.tars:Tars",
        "parquet": "engine.source.parquet_images:ParquetImages",
        "table": "engine.source.tables:Tables",
        "synthetic": "engine.source.synthetic:Synthetic",
        "dataset": "engine.stored:Stored",
    },
    group="fld.sources",
)
# What `auto` makes of the end of a uri; anything else is a folder or bucket of images.
_ENDINGS = {
    **dict.fromkeys((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.zst"), "webdataset"),
    **dict.fromkeys((".parquet", ".arrow"), "parquet"),
    **dict.fromkeys((".csv", ".tsv"), "table"),
}
# What `auto` recognises by the end of a uri and no kind reads.
_NOT_READ = {
    ".json": "a labels file",
    ".jsonl": "a labels file",
    ".xml": "a labels file",
    ".txt": "a text file",
    ".zip": "an archive",
    ".gz": "an archive",
}


def open_source(kind: str = "auto", **options: Any) -> Source:
    """The source a config describes. Reads nothing yet.

    Args:
        kind: One of SOURCES, or `auto` to decide by the uri.
        **options: The fields of that kind's class: `uri` and what else it takes.

    Raises:
        ConfigError: No uri, an unknown kind or option (the message names the known ones), or a
            value the kind refuses.
    """
    if "uri" not in options and kind != "synthetic":
        raise ConfigError("source.uri is missing; give a folder, s3://bucket/prefix or 'synthetic'")
    source_class = find_source(kind, str(options.get("uri")))
    known = _options(source_class)
    for name in options:
        if name not in known:
            nearest = get_close_matches(name, known, 1)
            raise ConfigError(
                f"source.{name} is no option of this source; known: {', '.join(known)}"
                + (f"; did you mean {nearest[0]!r}?" if nearest else "")
            )
    source: Source = source_class(**options)
    return source


def takes(kind: str, uri: str, option: str) -> bool:
    """Whether a kind of source has that option. Raises as `find_source`."""
    return option in _options(find_source(kind, uri))


def _options(source_class: Any) -> list[str]:
    return [item.name for item in fields(source_class) if item.init]


def find_source(kind: str, uri: str) -> Any:
    """The class of a kind, `auto` decided by the uri.

    Raises:
        ConfigError: The kind is unknown, or `auto` meets a file that no kind reads.
    """
    if kind == "auto":
        kind = _kind_of(uri)
    return SOURCES.find(kind)


def _kind_of(uri: str) -> str:
    if uri == "synthetic":
        return "synthetic"
    lowered = uri.lower()
    for ending, kind in _ENDINGS.items():
        if lowered.endswith(ending):
            return kind
    what = _NOT_READ.get(PurePosixPath(lowered).suffix)
    if what is not None:
        raise ConfigError(
            f"source.uri {uri!r} looks like {what}, which no kind of source reads; "
            "give a folder or bucket of images, or set source.kind to one of: "
            f"{', '.join(SOURCES.names())}"
        )
    return "images"
