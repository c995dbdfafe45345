"""Phrases of captions matched to objects that detectors have found: by name alone, no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims, empty_claims
from specialists.needs import refuse_missing
from specialists.phrases import Phrase, PhraseParser, parser_need, parser_revision
from specialists.synonyms import Synonyms, read_synonyms

_REVISION = "1"  # a change of the matching or of the shipped synonyms changes this
Role = Literal["alt", "brief", "detailed", "more_detailed"]
_ROLES: tuple[Role, ...] = ("alt", "brief", "detailed", "more_detailed")


@dataclass(kw_only=True)
class Matcher:
    """Answers each kept text with rows `grounding`, role `phrase`: one per phrase and box.

    What a noun phrase names is its longest ending that is a known class or one on the image:
    "tennis racket" before "racket", and a "hot dog" is never a dog. It finds the boxes of that
    class; where there are none, those of classes that are a kind of it ("an animal": a dog) or that
    it is a kind of ("a man": a person). A phrase that names n things finds up to n boxes, a plural
    all, to `max_boxes`. Boxes of crowds (`ignore`) take no part.

    `box`, `polygon` and `score` are those of the region, which `region_id` names: the score says
    how sure its source was of the box, nothing of the phrase; `text_score` is null. `parents` are
    the region's row and the text's.

    Attributes:
        name: The `source` of its rows.
        roles: Which texts are read.
        ambiguous: What to do with "a dog" where there are five, and where two phrases of a text
            that are no kinds of each other (a man, a woman) would share a box. `skip` says nothing,
            since names do not tell which one is meant; `best` takes the boxes of highest score.
            Seen on 8 photos with 40 sentences of Flickr30k Entities and YOLO11n: of 52 phrases on
            people `skip` places 24, 22 of them rightly; `best` places 18 more, 9 of them rightly.
        max_boxes: Most boxes of one phrase, those of highest score. 16: on 80 COCO photos people
            marked no more than 13 objects of a class, and called what was more a crowd.
        parser: spaCy's model, by package or folder.
        synonyms: More names of classes, `{couch: [sofa]}`; see `specialists.synonyms`.
        hypernyms: More kinds of classes, `{vehicle: [hovercraft]}`.
        quiet_limit: Null, because captions that name no detected object are normal.
    """

    name: str = "matcher"
    roles: tuple[Role, ...] = _ROLES
    ambiguous: Literal["skip", "best"] = "skip"
    max_boxes: int = 16
    parser: str = "en_core_web_sm"
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hypernyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    quiet_limit: int | None = None
    model: str = field(init=False, default="matcher")
    produces: tuple[str, ...] = field(init=False, default=("grounding/phrase",))
    requires: tuple[str, ...] = field(init=False, default=("text", "region/category"))
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False, default=Resources())
    _parser: Any = field(init=False, repr=False, default=None)
    _table: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if not self.roles:
            raise ConfigError(
                f"specialist {self.name!r}: roles is empty; "
                f"name at least one of {', '.join(_ROLES)}"
            )
        if self.max_boxes < 1:
            raise ConfigError(
                f"specialist {self.name!r}: max_boxes {self.max_boxes}; allowed: 1 or more"
            )
        read_synonyms(self.synonyms, self.hypernyms)

    def needs(self) -> list[Need]:
        """The model of spaCy."""
        return [parser_need(self.parser)]

    def prepare(self) -> str:
        """The version of the matching and of spaCy's model.

        Raises:
            SpecialistError: The model is not installed.
        """
        refuse_missing(self.name, self.needs())
        return f"{_REVISION}-{parser_revision(self.parser)}"

    def load(self) -> None:
        """Loads spaCy's model and the table of synonyms.

        Raises:
            SpecialistError: The model is not installed.
        """
        self._parser = PhraseParser(self.parser)
        self._table = read_synonyms(self.synonyms, self.hypernyms)

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """Rows by image, text, phrase, then score; see `engine.protocols.Specialist`."""
        kinds, roles = (rows[name].cast(pa.string()) for name in ("kind", "role"))
        is_text = pc.and_(pc.equal(kinds, "text"), pc.is_in(roles, pa.array(self.roles)))
        texts = rows.filter(pc.and_(is_text, pc.is_valid(rows["text"])))
        found = self._parser.read(texts["text"].to_pylist())
        objects = _objects_by_image(rows, self._table)
        answers: list[tuple[dict[str, Any], Phrase, _Object]] = []
        by_image = _grouped(texts.select(["image_key", "annotation_id", "text"]).to_pylist())
        for image in dict.fromkeys(image.image_key for image in images):
            for text in by_image.get(image, ()):
                matched = self._match(found[text["text"]], objects.get(image, []))
                answers.extend((text, *pair) for pair in matched)
        return _claims(answers, rows) if answers else empty_claims()

    def _match(
        self, phrases: list[Phrase], objects: list["_Object"]
    ) -> list[tuple[Phrase, "_Object"]]:
        on_image = {thing.key for thing in objects}
        named = [(phrase, self._name(phrase, on_image)) for phrase in phrases]
        pairs: list[tuple[Phrase, str, _Object]] = []
        for phrase, name in named:
            wanted = self._classes(name, on_image) if name else set()
            candidates = [thing for thing in objects if thing.key in wanted]
            number = len(candidates) if phrase.number is None else phrase.number
            if self.ambiguous == "best" or len(candidates) <= number:
                chosen = candidates[: min(number, self.max_boxes)]
                pairs.extend((phrase, name, thing) for thing in chosen)
        if self.ambiguous == "skip":
            pairs = [pair for pair in pairs if not self._is_disputed(pair, pairs)]
        return [(phrase, thing) for phrase, _, thing in pairs]

    def _name(self, phrase: Phrase, on_image: set[str]) -> str:
        """The longest ending of the noun that is a known class, folded; empty if there is none."""
        words = phrase.noun.split()
        for i in range(len(words)):
            key = self._table.key(" ".join(words[i:]))
            if key in on_image or self._table.knows(key):
                return str(key)
        return ""

    def _classes(self, name: str, on_image: set[str]) -> set[str]:
        if name in on_image:
            return {name}
        is_a = self._table.is_a
        return {key for key in on_image if is_a(key, name) or is_a(name, key)}

    def _is_disputed(
        self,
        pair: tuple[Phrase, str, "_Object"],
        pairs: list[tuple[Phrase, str, "_Object"]],
    ) -> bool:
        """Whether a phrase of the text that names something else would have the same box."""
        _, name, thing = pair
        is_a = self._table.is_a
        return any(
            other is thing and not is_a(name, rival) and not is_a(rival, name)
            for _, rival, other in pairs
        )


class _Object(NamedTuple):
    """A kept region: its class, folded, and its place among the rows."""

    key: str
    row: int


def _objects_by_image(rows: pa.Table, table: Synonyms) -> dict[str, list[_Object]]:
    """The regions of each image that have a class, best score first, each once."""
    kinds, roles = (rows[name].cast(pa.string()) for name in ("kind", "role"))
    is_object = pc.and_(pc.equal(kinds, "region"), pc.equal(roles, "category"))
    is_object = pc.and_(is_object, pc.invert(rows["ignore"]))
    is_object = pc.and_(is_object, pc.and_(pc.is_valid(rows["text"]), pc.is_valid(rows["box"])))
    places = pc.indices_nonzero(is_object)
    scores = pc.fill_null(rows["score"].take(places), -1.0)
    places = places.take(pc.sort_indices(pc.negate(scores)))  # stable: ties stay in order
    columns = rows.select(["image_key", "region_id", "text"]).take(places).to_pydict()
    found: dict[str, list[_Object]] = {}
    seen: set[tuple[str, str]] = set()
    for image, region, text, row in zip(*columns.values(), places.to_pylist(), strict=True):
        if (image, region) not in seen:  # two sources' names for one region are one object
            seen.add((image, region))
            found.setdefault(image, []).append(_Object(table.key(text), row))
    return found


def _grouped(texts: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for text in texts:
        groups.setdefault(text["image_key"], []).append(text)
    return groups


def _claims(answers: list[tuple[dict[str, Any], Phrase, _Object]], rows: pa.Table) -> pa.Table:
    texts, phrases, things = zip(*answers, strict=True)
    regions = rows.take(pa.array([thing.row for thing in things]))
    text_ids = [text["annotation_id"] for text in texts]
    region_rows = regions["annotation_id"].to_pylist()
    return claims(
        image_key=[text["image_key"] for text in texts],
        kind="grounding",
        role="phrase",
        text=[phrase.text for phrase in phrases],
        region_id=pc.coalesce(regions["region_id"], regions["annotation_id"]),
        text_id=text_ids,
        span_start=[phrase.start for phrase in phrases],
        span_end=[phrase.end for phrase in phrases],
        box=regions["box"],
        polygon=regions["polygon"],
        score=regions["score"],
        parents=[list(pair) for pair in zip(region_rows, text_ids, strict=True)],
    )
