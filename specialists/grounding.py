"""Noun phrases of captions located by a zero-shot detector (`pip install 'fld-engine[grounding]'`).

Only what transformers itself implements and only safetensors: no remote code, no pickles.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image as PillowImage

from engine.errors import ConfigError
from engine.geometry import clip, is_box, suppress
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims, empty_claims
from specialists.hub import hub_needs, load_pretrained, pin
from specialists.needs import refuse_missing
from specialists.phrases import Phrase, PhraseParser, parser_need
from specialists.threads import device_resources
from specialists.zero_shot import Fits, zero_shot

Role = Literal["alt", "brief", "detailed", "more_detailed"]
_ROLES: tuple[Role, ...] = ("alt", "brief", "detailed", "more_detailed")
_ARTICLE = re.compile(r"^(?:an?|the) ")


@dataclass(kw_only=True)
class Grounding:
    """Answers each kept text with rows `grounding`, role `phrase`: one per phrase and box found.

    A phrase is asked for once per image, whatever the number of texts it stands in, without its
    article (`prompt` is what was asked); each place where it stands gets the rows. `score` is the
    detector's for that box and phrase. `text_score` is Grounding DINO's mean over the phrase's
    tokens; OWL gives one number, so there it is null. Rows of one box share a `region_id` of their
    own; `parents` is the text's row. Boxes are cut at the image's sides; one wholly beyond them,
    where OWLv2 pads the picture, is none.

    Attributes:
        model: A folder, or a hub id (downloaded when it is not in the cache): Grounding DINO, MM
            Grounding DINO, OWL-ViT or OWLv2.
        name: The `source` of its rows.
        roles: Which texts are read.
        min_score: Lowest score a row may have. 0.1 leaves the choice to the rules; it is OWL's
            default in transformers, Grounding DINO's is 0.25.
        iou: Overlap above which two boxes of a phrase are one; these detectors do not settle that
            themselves. 0.7 is ultralytics' default for its own.
        max_phrases: Most phrases asked for on one image, the first ones of its texts; the others
            get no row. 64: the mean of FLD-5B's longest texts is 28 objects.
        max_boxes: Most boxes of one phrase, those of highest score.
        parser: Model of spaCy, by package or folder.
        dtype: `float32`, `bfloat16` or `float16`.
        device: As torch names it; `cpu` unless asked otherwise.
        revision: Branch, tag or commit on the hub; null: its main branch.
        gpus: Share of a GPU one worker takes; null: a whole one if `device` is one, else none.
        quiet_limit: Alarm when the first images, this many, gave no row. 64: such a model always
            finds something at a low score.
    """

    model: str
    name: str = "grounding"
    roles: tuple[Role, ...] = _ROLES
    min_score: float = 0.1
    iou: float = 0.7
    max_phrases: int = 64
    max_boxes: int = 16
    parser: str = "en_core_web_sm"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    revision: str | None = None
    gpus: float | None = None
    quiet_limit: int | None = 64
    produces: tuple[str, ...] = field(init=False, default=("grounding/phrase",))
    requires: tuple[str, ...] = field(init=False, default=("text",))
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False)
    _pinned: str | None = field(init=False, repr=False, default=None)
    _parser: Any = field(init=False, repr=False, default=None)
    _detector: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if not self.roles:
            raise ConfigError(
                f"specialist {self.name!r}: roles is empty; "
                f"name at least one of {', '.join(_ROLES)}"
            )
        for option, share in {"min_score": self.min_score, "iou": self.iou}.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"specialist {self.name!r}: {option} {share}; allowed: 0 to 1")
        counts = {"max_phrases": self.max_phrases, "max_boxes": self.max_boxes}
        for option, count in counts.items():
            if count < 1:
                raise ConfigError(f"specialist {self.name!r}: {option} {count}; allowed: 1 or more")
        self.resources = device_resources(self.device, self.gpus)

    def needs(self) -> list[Need]:
        """transformers, torchvision, spaCy's model, and the detector as a folder or cached."""
        return [parser_need(self.parser), *hub_needs(self.model, self.revision, "grounding")]

    def prepare(self) -> str:
        """Downloads a hub model; returns its commit, or the digest of a folder.

        Raises:
            SpecialistError: A package, spaCy's model or the folder is missing, or the hub has no
                such model or cannot be reached.
        """
        refuse_missing(self.name, self.needs())
        self._pinned = pin(self.name, self.model, self.revision)
        return self._pinned

    def load(self) -> None:
        """Loads the detector and the parser.

        Raises:
            SpecialistError: Either cannot be loaded, or it is no such detector.
        """
        processor, network = load_pretrained(
            self.name,
            self.model,
            self._pinned or self.revision,
            ("AutoProcessor", "AutoModelForZeroShotObjectDetection"),
            dtype=self.dtype,
            device=self.device,
        )
        self._detector = zero_shot(self.name, self.model, processor, network)
        self._parser = PhraseParser(self.parser)

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """Rows by image, text, phrase, then score; see `engine.protocols.Specialist`."""
        mentions = self._mentions(rows)
        wanted = [image for image in images if image.image_key in mentions]
        queries = [self._queries(mentions[image.image_key]) for image in wanted]
        found: dict[str, dict[str, list[_Found]]] = {}
        for group in _of_one_size(wanted):
            pictures = [PillowImage.fromarray(wanted[i].rgb()) for i in group]
            fits = self._detector.fit(pictures, [queries[i] for i in group])
            for i, fit in zip(group, fits, strict=True):
                found[wanted[i].image_key] = self._choose(fit, queries[i], wanted[i])
        answers = [
            (image.image_key, mention, box)
            for image in wanted
            for mention in mentions[image.image_key]
            for box in found[image.image_key].get(mention.query, ())
        ]
        return _claims(answers) if answers else empty_claims()

    def _mentions(self, rows: pa.Table) -> dict[str, list["_Mention"]]:
        """Where phrases stand, by image; images without any are left out."""
        kinds, roles = (rows[name].cast(pa.string()) for name in ("kind", "role"))
        is_text = pc.and_(pc.equal(kinds, "text"), pc.is_in(roles, pa.array(self.roles)))
        texts = rows.filter(pc.and_(is_text, pc.is_valid(rows["text"])))
        read = self._parser.read(texts["text"].to_pylist())
        mentions: dict[str, list[_Mention]] = {}
        columns = texts.select(["image_key", "annotation_id", "text"]).to_pydict().values()
        for key, text_id, text in zip(*columns, strict=True):
            for phrase in read[text]:
                mention = _Mention(text_id, phrase, _query(phrase.text))
                mentions.setdefault(key, []).append(mention)
        return mentions

    def _queries(self, mentions: list["_Mention"]) -> list[str]:
        return list(dict.fromkeys(mention.query for mention in mentions))[: self.max_phrases]

    def _choose(self, fits: Fits, queries: list[str], image: Image) -> dict[str, list["_Found"]]:
        """The boxes of each phrase that are sure enough and no twins, best first."""
        boxes = clip(fits.boxes, np.array([image.width, image.height]))
        sure = (fits.scores >= np.float32(self.min_score)) & is_box(boxes)[:, None]
        places, phrases = np.nonzero(sure)
        scores = fits.scores[places, phrases]
        twins, _ = suppress(boxes[places], scores, phrases, self.iou)
        order = np.lexsort((places, -scores))
        chosen: dict[str, list[_Found]] = {}
        for i in order[~twins[order]].tolist():
            place, phrase = int(places[i]), int(phrases[i])
            of_phrase = chosen.setdefault(queries[phrase], [])
            if len(of_phrase) < self.max_boxes:
                score = fits.text_scores
                text_score = None if score is None else float(score[place, phrase])
                region = f"{phrase}/{place}"
                of_phrase.append(_Found(region, boxes[place], float(scores[i]), text_score))
        return chosen


class _Mention(NamedTuple):
    """A phrase in a text, and what the detector is asked for it."""

    text_id: str
    phrase: Phrase
    query: str


class _Found(NamedTuple):
    """A box for a phrase."""

    region: str  # names it among those of its image
    box: npt.NDArray[np.float32]
    score: float
    text_score: float | None


def _query(phrase: str) -> str:
    words = " ".join(phrase.lower().split())
    return _ARTICLE.sub("", words) or words


def _of_one_size(images: Sequence[Image]) -> Iterator[list[int]]:
    """Positions of images that go through the model together: padding would change the answer."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for i, image in enumerate(images):
        by_size.setdefault((image.width, image.height), []).append(i)
    yield from by_size.values()


def _claims(answers: list[tuple[str, _Mention, _Found]]) -> pa.Table:
    keys, mentions, boxes = zip(*answers, strict=True)
    firsts: dict[tuple[str, str], str] = {}
    names = [str(i) for i in range(len(answers))]
    for name, key, box in zip(names, keys, boxes, strict=True):
        firsts.setdefault((key, box.region), name)
    return claims(
        image_key=list(keys),
        annotation_id=names,
        kind="grounding",
        role="phrase",
        text=[mention.phrase.text for mention in mentions],
        region_id=[firsts[key, box.region] for key, box in zip(keys, boxes, strict=True)],
        text_id=[mention.text_id for mention in mentions],
        span_start=[mention.phrase.start for mention in mentions],
        span_end=[mention.phrase.end for mention in mentions],
        box=np.stack([box.box for box in boxes]),
        score=[box.score for box in boxes],
        text_score=[box.text_score for box in boxes],
        prompt=[mention.query for mention in mentions],
        parents=[[mention.text_id] for mention in mentions],
    )
