"""Rules that hold captions and regions of an image against each other, by the names of things.

Both read captions with spaCy and compare nouns with the classes of regions through the table of
synonyms, as the specialist `matcher` does.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.protocols import Context, Need
from engine.schema import ROLES, Tables, Verdicts
from filters.columns import Flags, flags, is_word
from specialists.phrases import PhraseParser, parser_need
from specialists.synonyms import Synonyms, fold, read_synonyms

_CAPTIONS = ROLES["text"]
_MOST_TEXTS = 20_000  # whose nouns a process remembers: a few MB

Nouns = Mapping[str, tuple[str, ...]]  # the nouns of each text
Names = dict[str, set[str]]  # folded classes by image


@dataclass(frozen=True, kw_only=True)
class UnsupportedNouns:
    """Reject captions that name things no region of the image shows.

    Judges rows of kind `text` of the named roles, on images that have regions with a class (kept
    ones, of role `category` or `phrase`, not `ignore`). Of the caption's noun phrases those count
    whose noun is a class one could have found: one of `vocabulary`, or, where that is null, any the
    table of synonyms knows. A noun counts once. It has support when a region bears its name, a
    synonym, a kind of it ("an animal": a dog) or what it is a kind of ("a man": a person). Measures
    the share of nouns without support; kept when measured <= max_share. A caption without such
    nouns is left alone, and so are all captions of an image without regions: where nothing was
    found, or nothing was looked for, silence proves nothing.

    Give `vocabulary` the classes of the detector, or it will be blamed for what it never learned.
    It should see the regions: list a captioner on the level of the detectors or above.

    The default was measured on 80 COCO photos with their 400 captions and YOLO11n's regions of
    score 0.25 or more: with the 80 classes as `vocabulary` it rejects 33 of 285 captions that can
    be judged, and 261 of 281 once every photo has the captions of another one; without, 56 of 358
    and 310 of 357. With the boxes people drew, 6 of 291 and 267 of 291.
    """

    max_share: float = 0.5
    roles: tuple[str, ...] = _CAPTIONS
    vocabulary: tuple[str, ...] | None = None
    parser: str = "en_core_web_sm"
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hypernyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: ClassVar[str] = "unsupported_nouns"
    applies_to: ClassVar[tuple[str, ...]] = ("text",)

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise ConfigError(
                f"rule 'unsupported_nouns': max_share is {self.max_share}; a share lies in 0..1"
            )
        _check_captions(self.name, self.roles)
        if self.vocabulary is not None and not any(fold(label) for label in self.vocabulary):
            raise ConfigError(
                "rule 'unsupported_nouns': vocabulary is empty; name classes, or leave it out"
            )
        read_synonyms(self.synonyms, self.hypernyms)

    def needs(self) -> list[Need]:
        """The model of spaCy."""
        return [parser_need(self.parser)]

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        captions = _captions(rows, self.roles) & context.fresh
        shown = _classes_by_image(rows, self._table)
        on_shown = np.array([key in shown for key in rows["image_key"].to_pylist()], bool)
        judged = np.flatnonzero(captions & on_shown)
        texts, keys = (
            rows[name].take(pa.array(judged)).to_pylist() for name in ("text", "image_key")
        )
        nouns = _read(self.parser, texts)
        measured = np.full(rows.num_rows, np.nan, np.float32)
        for row, text, key in zip(judged.tolist(), texts, keys, strict=True):
            measured[row] = self._share(nouns[text], shown[key])
        return Verdicts(
            pa.array(measured > np.float32(self.max_share)),
            measured=pa.array(measured, pa.float32(), from_pandas=True),
            limit=self.max_share,
        )

    def _share(self, nouns: tuple[str, ...], shown: set[str]) -> float:
        named = {_class_of(noun, shown, self._table, self._known) for noun in nouns} - {""}
        if not named:
            return float("nan")
        bare = [name for name in named if not _supported(name, shown, self._table)]
        return len(bare) / len(named)

    @cached_property
    def _table(self) -> Synonyms:
        return read_synonyms(self.synonyms, self.hypernyms)

    @cached_property
    def _known(self) -> frozenset[str] | None:
        """The folded names of the classes one could have found; null: all of the table."""
        if self.vocabulary is None:
            return None
        return frozenset(self._table.key(label) for label in self.vocabulary)


@dataclass(frozen=True, kw_only=True)
class UnnamedRegion:
    """Reject regions that no caption of the image names.

    Judges rows of kind `region`, role `category`, not `ignore`, on images that have captions of
    the named roles with a noun. Measures how many of those captions name the region's class, a
    synonym, a kind of it or what it is a kind of; kept when measured >= min_captions. A region
    without a class is left alone, and so are those of images without captions.

    It is for data in which whatever matters is spoken of: captions leave most of what is in a
    picture unsaid. Five captions each of 80 COCO photos leave 305 of 731 boxes unnamed that people
    drew, and as a filter of detections it cost .13 of recall for .03 of precision.
    """

    min_captions: int = 1
    roles: tuple[str, ...] = _CAPTIONS
    parser: str = "en_core_web_sm"
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hypernyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    name: ClassVar[str] = "unnamed_region"
    applies_to: ClassVar[tuple[str, ...]] = ("region",)

    def __post_init__(self) -> None:
        if self.min_captions < 1:
            raise ConfigError(
                f"rule 'unnamed_region': min_captions is {self.min_captions}; allowed: 1 or more"
            )
        _check_captions(self.name, self.roles)
        read_synonyms(self.synonyms, self.hypernyms)

    def needs(self) -> list[Need]:
        """The model of spaCy."""
        return [parser_need(self.parser)]

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        said = self._said(rows)
        judged = _has_class(rows) & is_word(rows["role"], ["category"]) & context.fresh
        places = np.flatnonzero(judged)
        columns = rows.select(["image_key", "text"]).take(pa.array(places)).to_pydict()
        measured = np.full(rows.num_rows, np.nan, np.float32)
        known: dict[tuple[str, str], int] = {}
        for row, key, label in zip(places.tolist(), *columns.values(), strict=True):
            if key in said:
                if (key, label) not in known:
                    known[key, label] = self._num_naming(label, said[key])
                measured[row] = known[key, label]
        return Verdicts(
            pa.array(measured < self.min_captions),
            measured=pa.array(measured, pa.float32(), from_pandas=True),
            limit=float(self.min_captions),
        )

    def _said(self, rows: pa.Table) -> dict[str, list[tuple[str, ...]]]:
        """The nouns of each caption that has any, by image."""
        chosen = rows.filter(pa.array(_captions(rows, self.roles)))
        texts = chosen["text"].to_pylist()
        nouns = _read(self.parser, texts)
        said: dict[str, list[tuple[str, ...]]] = {}
        for key, text in zip(chosen["image_key"].to_pylist(), texts, strict=True):
            if nouns[text]:
                said.setdefault(key, []).append(nouns[text])
        return said

    def _num_naming(self, label: str, captions: list[tuple[str, ...]]) -> int:
        shown = {self._table.key(label)}
        return sum(
            any(
                _supported(_class_of(noun, shown, self._table, None), shown, self._table)
                for noun in nouns
            )
            for nouns in captions
        )

    @cached_property
    def _table(self) -> Synonyms:
        return read_synonyms(self.synonyms, self.hypernyms)


def _check_captions(rule: str, roles: tuple[str, ...]) -> None:
    unknown = [role for role in roles if role not in _CAPTIONS]
    if not roles or unknown:
        found = f"names {unknown[0]!r}" if unknown else "is empty"
        raise ConfigError(f"rule {rule!r}: roles {found}; allowed: {', '.join(_CAPTIONS)}")


def _captions(rows: pa.Table, roles: tuple[str, ...]) -> Flags:
    chosen = is_word(rows["kind"], ["text"]) & is_word(rows["role"], roles)
    return chosen & flags(rows["text"].is_valid())


def _has_class(rows: pa.Table) -> Flags:
    chosen = is_word(rows["kind"], ["region"]) & is_word(rows["role"], ["category", "phrase"])
    return chosen & flags(rows["text"].is_valid()) & ~flags(rows["ignore"])


def _classes_by_image(rows: pa.Table, table: Synonyms) -> Names:
    """The folded classes of the regions of each image that has any."""
    chosen = rows.filter(pa.array(_has_class(rows))).select(["image_key", "text"])
    distinct = chosen.group_by(["image_key", "text"], use_threads=False).aggregate([])
    found: Names = {}
    for key, label in zip(*distinct.to_pydict().values(), strict=True):
        found.setdefault(key, set()).add(table.key(label))
    return found


def _class_of(noun: str, shown: set[str], table: Synonyms, known: frozenset[str] | None) -> str:
    """The longest ending of a noun that is a class shown or known, folded; empty if none is."""
    words = noun.split()
    for i in range(len(words)):
        key = table.key(" ".join(words[i:]))
        if key in shown or (table.knows(key) if known is None else key in known):
            return key
    return ""


def _supported(name: str, shown: set[str], table: Synonyms) -> bool:
    """Whether a class is shown itself, as a kind of it or as what it is a kind of."""
    if not name:
        return False
    above = table.kinds.get(name, frozenset())
    return (
        name in shown
        or not shown.isdisjoint(above)
        or any(name in table.kinds.get(other, ()) for other in shown)
    )


@lru_cache(maxsize=2)
def _parser(name: str) -> tuple[PhraseParser, OrderedDict[str, tuple[str, ...]]]:
    """The parser, loaded once per process, and the nouns of the texts it read last."""
    return PhraseParser(name), OrderedDict()


def _read(parser: str, texts: Iterable[str]) -> Nouns:
    """The nouns of each text; each distinct one is parsed once, and known ones are not again."""
    wanted = dict.fromkeys(texts)
    if not wanted:  # a shard without captions loads no parser
        return {}
    reader, read = _parser(parser)
    fresh = reader.read(text for text in wanted if text not in read)
    for text, phrases in fresh.items():
        read[text] = tuple(dict.fromkeys(phrase.noun for phrase in phrases))
    found = {text: read[text] for text in wanted}
    while len(read) > _MOST_TEXTS:
        read.popitem(last=False)
    return found
