"""The text that fits a region best: of its class, its caption, and the phrases of that.

`pip install 'fld-engine[caption,grounding]'`. Only what transformers itself implements and only
safetensors: no remote code, no pickles.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims, empty_claims
from specialists.hub import hub_needs, pin
from specialists.needs import refuse_missing
from specialists.phrases import Phrase, PhraseParser, parser_need, parser_revision
from specialists.regions import Regions, crops_of
from specialists.similarity import ImageTextModel
from specialists.synonyms import Synonyms, read_synonyms
from specialists.threads import device_resources

_REVISION = "1"  # a change of the choice made without a model changes this
_NO_MODEL = "noun_chunks"  # what rows chosen without a model name as theirs


@dataclass(kw_only=True)
class RegionText:
    """Answers each kept region that has a caption with rows `region`, role `brief`: candidates.

    Candidates are, as the paper has them (Florence-2, 4.3), the class of the region, its caption,
    and the noun phrases of that caption; an image-text model says how much each is like the crop.
    All are written, `text_score` being that similarity (a cosine, see `specialists.similarity`),
    `prompt` what each is: `category`, `brief` or `chunk`. The rule `best_region_text` keeps the
    most similar one, which then supersedes the caption: without that rule all of them do. Texts
    equal but for case are one candidate. The row has the `region_id` and the box of the region,
    `score` is null: this model found no box. Its parents are the captions it competes with, all of
    them where several sources captioned the region; a region that a person described is left alone.

    The paper used Florence-1, whose weights are not public. With `model: null` no model is asked:
    one row per region, chosen by words, with `text_score` null and `noun_chunks` as its model. It
    is the first noun phrase whose noun ends in the class or a name or kind of it ("a young woman"
    for `person`), else the caption.

    Attributes:
        model: A folder, or a hub id (downloaded when it is not in the cache) of an image-text
            model: CLIP, SigLIP, SigLIP 2. Null: choose by words.
        name: The `source` of its rows.
        margin: What a crop shows beyond the box, as for `region_caption`, so that the texts are
            compared with what the captioner saw.
        batch_size: Crops, and texts, in one pass.
        parser: spaCy's model, by package or folder.
        dtype: `float32`, `bfloat16` or `float16`.
        device: As torch names it; `cpu` unless asked otherwise.
        revision: Branch, tag or commit on the hub; null: its main branch.
        gpus: Share of a GPU one worker takes; null: a whole one if `device` is one, else none.
        quiet_limit: Null, because images without kept regions are normal.
    """

    model: str | None = "google/siglip2-base-patch16-224"
    name: str = "region_text"
    margin: float = 0.08
    batch_size: int = 16
    parser: str = "en_core_web_sm"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    revision: str | None = None
    gpus: float | None = None
    quiet_limit: int | None = None
    produces: tuple[str, ...] = field(init=False, default=("region/brief",))
    requires: tuple[str, ...] = field(init=False, default=("region/category", "region/brief"))
    replaces: Replaces = field(init=False, default="kept")
    resources: Resources = field(init=False)
    _compares: bool = field(init=False, repr=False)  # whether there is a model to ask
    _pinned: str | None = field(init=False, repr=False, default=None)
    _parser: Any = field(init=False, repr=False, default=None)
    _judge: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(
                f"specialist {self.name!r}: batch_size {self.batch_size}; allowed: 1 or more"
            )
        if not 0 <= self.margin <= 1:
            raise ConfigError(f"specialist {self.name!r}: margin {self.margin}; allowed: 0 to 1")
        self._compares = self.model is not None
        self.model = self.model if self._compares else _NO_MODEL
        self.resources = device_resources(self.device, self.gpus)

    def needs(self) -> list[Need]:
        """The model of spaCy; transformers, torchvision and the model to compare with, if any."""
        needs = [parser_need(self.parser)]
        if self._compares:
            needs += hub_needs(str(self.model), self.revision, "caption")
        return needs

    def prepare(self) -> str:
        """Downloads a hub model; returns its commit or digest, and the version of spaCy's model.

        Raises:
            SpecialistError: A package, the folder or spaCy's model is missing, or the hub has no
                such model or cannot be reached.
        """
        refuse_missing(self.name, self.needs())
        if self._compares:
            self._pinned = pin(self.name, str(self.model), self.revision)
        return f"{self._pinned or _REVISION}-{parser_revision(self.parser)}"

    def load(self) -> None:
        """Loads spaCy's model, and the image-text model where there is one.

        Raises:
            SpecialistError: spaCy's model is not installed, transformers does not know such a
                model, there are no safetensors of it, or it does not compare pictures and texts.
        """
        self._parser = PhraseParser(self.parser)
        if not self._compares:
            self._judge = read_synonyms()
            return
        self._judge = ImageTextModel.load(
            self.name,
            str(self.model),
            self._pinned or self.revision,
            batch_size=self.batch_size,
            dtype=self.dtype,
            device=self.device,
        )

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """Rows by region, then class, caption, phrases; see `engine.protocols.Specialist`."""
        captions = _captions(rows)
        regions = Regions.find(
            images, captions, ("brief",), min_side_px=0, max_regions=max(rows.num_rows, 1)
        )
        if not len(regions):
            return empty_claims()
        briefs = _texts_by_region(captions)
        classes = _texts_by_region(_of_role(rows, "category"))
        phrases = self._parser.read(captions["text"].to_pylist())
        tellings = [
            _Telling(i, classes.get(key, [])[:1], briefs[key])
            for i, key in enumerate(_region_keys(regions.rows))
        ]
        if self._compares:
            told = [one for telling in tellings for one in telling.candidates(phrases)]
            scores = self._similarities(images, regions, told)
        else:
            told = [telling.choice(phrases, self._judge) for telling in tellings]
            scores = None
        return _claims(regions, tellings, told, scores)

    def _similarities(
        self, images: Sequence[Image], regions: Regions, told: Sequence["_Candidate"]
    ) -> list[float]:
        """How like the crop of its region each candidate is; a repeated text is read once."""
        texts = list(dict.fromkeys(one.text for one in told))
        places = {text: i for i, text in enumerate(texts)}
        seen = self._judge.pictures(crops_of(images, regions, self.margin))
        read = self._judge.texts(texts)
        seen = seen[[one.region for one in told]]
        read = read[[places[one.text] for one in told]]
        cosines: list[float] = (seen * read).sum(axis=1).tolist()
        return cosines


class _Candidate(NamedTuple):
    """A text for a region, by its place, and what kind of text that is."""

    region: int
    text: str
    kind: Literal["category", "brief", "chunk"]


_Told = tuple[str, str]  # the id of a row and its text


@dataclass(frozen=True)
class _Telling:
    """What is said of one region so far: at most one class, and captions."""

    region: int
    classes: Sequence[_Told]
    briefs: Sequence[_Told]

    def candidates(self, phrases: Mapping[str, list[Phrase]]) -> Iterator[_Candidate]:
        """Class, captions, then phrases; each text once, case aside."""
        chunks = (phrase.text for _, text in self.briefs for phrase in phrases[text])
        every = (
            *(_Candidate(self.region, text, "category") for _, text in self.classes),
            *(_Candidate(self.region, text, "brief") for _, text in self.briefs),
            *(_Candidate(self.region, text, "chunk") for text in chunks),
        )
        first: dict[str, _Candidate] = {}
        for one in every:
            first.setdefault(" ".join(one.text.casefold().split()), one)
        yield from first.values()

    def choice(self, phrases: Mapping[str, list[Phrase]], names: Synonyms) -> _Candidate:
        """The first phrase that names the class, else the first caption."""
        for _, wanted in self.classes:
            for _, text in self.briefs:
                for phrase in phrases[text]:
                    if _names_class(phrase, wanted, names):
                        return _Candidate(self.region, phrase.text, "chunk")
        return _Candidate(self.region, self.briefs[0][1], "brief")


def _names_class(phrase: Phrase, wanted: str, names: Synonyms) -> bool:
    words = phrase.noun.split()
    return any(names.is_a(" ".join(words[i:]), wanted) for i in range(len(words)))


def _of_role(rows: pa.Table, role: str) -> pa.Table:
    """Rows of kind `region` and that role that say something."""
    is_region = pc.equal(rows["kind"].cast(pa.string()), "region")
    is_told = pc.equal(rows["role"].cast(pa.string()), role)
    has_words = pc.not_equal(pc.utf8_trim_whitespace(rows["text"].fill_null("")), "")
    return rows.filter(pc.and_(pc.and_(is_region, is_told), has_words))


def _captions(rows: pa.Table) -> pa.Table:
    """The captions of regions that no person described."""
    captions = _of_role(rows, "brief")
    by_person = set(_region_keys(captions.filter(captions["human"])))
    return captions.filter(
        pa.array([key not in by_person for key in _region_keys(captions)], pa.bool_())
    )


def _region_keys(rows: pa.Table) -> list[tuple[str, str]]:
    regions = pc.coalesce(rows["region_id"], rows["annotation_id"])
    return list(zip(rows["image_key"].to_pylist(), regions.to_pylist(), strict=True))


def _texts_by_region(rows: pa.Table) -> dict[tuple[str, str], list[_Told]]:
    told = zip(rows["annotation_id"].to_pylist(), rows["text"].to_pylist(), strict=True)
    found: dict[tuple[str, str], list[_Told]] = {}
    for key, one in zip(_region_keys(rows), told, strict=True):
        found.setdefault(key, []).append(one)
    return found


def _claims(
    regions: Regions,
    tellings: Sequence[_Telling],
    told: Sequence[_Candidate],
    scores: list[float] | None,
) -> pa.Table:
    named = regions.rows.take(pa.array(np.array([one.region for one in told], np.int64)))
    return claims(
        image_key=named["image_key"],
        kind="region",
        role="brief",
        text=[one.text for one in told],
        region_id=named["region_id"],
        box=named["box"],
        text_score=scores,
        prompt=[one.kind for one in told],
        # a kept row supersedes its parents: the captions, and never the row of the class, which
        # stays what the region is
        parents=[[row for row, _ in tellings[one.region].briefs] for one in told],
    )
