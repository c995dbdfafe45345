"""Flickr30k Entities: sentences with marked phrases, and boxes of what the phrases name."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple

from engine.errors import LabelsError
from engine.failures import Failure, fail
from engine.formats.flickr30k_markup import (
    Annotation,
    Sentence,
    read_annotation,
    read_sentence,
    without_marks,
    without_objects,
)
from engine.formats.flickr30k_writer import make_files
from engine.formats.parts import (
    Losses,
    PartBuilder,
    Repeats,
    dump,
    labelled_images,
    own_record,
)
from engine.formats.shapes import Header, LabelSet, Part, Place, ReadOptions
from engine.source.labels import LabelError
from engine.source.names import decode_name
from engine.source.shapes import ReadError

_SENTENCES, _ANNOTATIONS = "Sentences", "Annotations"
_MAX_NAME = 200  # bytes; ".txt" must fit behind it
_Files = tuple[str | None, str | None]  # sentences and annotation; null for one there is not
_EMPTY = Annotation(None, None, None, [], [])


class Flickr30k:
    """A folder with `Sentences/ID.txt` (a sentence a line) and `Annotations/ID.xml`.

    A sentence is a text of role `brief`. A marked phrase whose entity has boxes is a grounding row
    for each of them, its span exact in the sentence without mark-up. A box is a region, with the
    phrases that name it, or a proposal where none does. Scenes and things without a box have no
    row, and stay. Corners count from 1 in the files and from 0 in rows.

    A rejected sentence leaves its file; a phrase all of whose boxes are rejected loses its mark-up;
    an object all of whose rows are rejected leaves the annotation.
    """

    name: ClassVar[str] = "flickr30k"
    is_folder: ClassVar[bool] = True

    def recognises(self, place: Place, head: bytes) -> bool:
        """A folder with both folders, or marked sentences; see `engine.formats.shapes.Format`."""
        if place.path:
            return False
        texts = _stems(place, _SENTENCES, ".txt")
        if not texts:
            return False
        first = f"{_SENTENCES}/{texts[0]}.txt"
        try:
            is_marked = b"[/EN#" in place.location.read_head(first, 1 << 16)
        except ReadError:
            is_marked = False
        return is_marked or bool(_stems(place, _ANNOTATIONS, ".xml"))

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`."""
        texts, annotations = _stems(place, _SENTENCES, ".txt"), _stems(place, _ANNOTATIONS, ".xml")
        if not texts and not annotations:
            raise LabelsError(
                f"{place}: holds no {_SENTENCES}/*.txt and no {_ANNOTATIONS}/*.xml; give the "
                "folder of Flickr30k Entities that holds both"
            )
        return LabelSet(Header(self.name), _read(place, texts, annotations, options))

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Two files an image; see `engine.formats.shapes.Format`."""
        is_own = labels.header.kind == self.name
        losses, repeats = Losses(), Repeats()
        for labelled in labelled_images(labels, is_own=is_own):
            record = own_record(labelled.image, is_own)
            if record is None:
                stem = labelled.image["uri"].rpartition("/")[2].rpartition(".")[0]
                files: _Files = make_files(*labelled, losses)
            else:
                stem = record["id"]
                files = _thinned(record, labelled.rows, losses)
            if not _is_plain(stem) or repeats.count([stem]) != [0]:
                stem = labelled.image["image_key"]
            names = (f"{_SENTENCES}/{stem}.txt", f"{_ANNOTATIONS}/{stem}.xml")
            for path, content in zip(names, files, strict=True):
                if content is not None:
                    place.location.write(path, content.encode())
        return losses.sentences()


def _stems(place: Place, folder: str, ending: str) -> list[str]:
    names = place.location.names(folder)
    return [name.removesuffix(ending) for name in names if name.endswith(ending)]


def _is_plain(stem: str) -> bool:
    """Whether a name from a record may be the name of a file."""
    name = decode_name(stem)
    is_safe = not set(name) & set("/\\\0") and not name.startswith(".")
    size = len(name.encode("utf-8", "surrogateescape"))
    return bool(name) and is_safe and size <= _MAX_NAME


def _read(
    place: Place, texts: Sequence[str], annotations: Sequence[str], options: ReadOptions
) -> Iterator[Part]:
    builder = PartBuilder()
    with_text, with_xml = set(texts), set(annotations)
    for stem in sorted(with_text | with_xml):
        sentences = xml = None
        if stem in with_text:
            sentences = _read_text(place, f"{_SENTENCES}/{stem}.txt", options)
        if stem in with_xml:
            xml = _read_text(place, f"{_ANNOTATIONS}/{stem}.xml", options)
        _add(stem, sentences, xml, builder)
        if len(builder) == options.part_size:
            yield builder.take()
    if len(builder):
        yield builder.take()


def _read_text(place: Place, path: str, options: ReadOptions) -> str:
    """A whole file, its byte order mark and line ends as they are.

    Raises:
        LabelsError: It cannot be read, is too large, or is not UTF-8.
    """
    most = options.limits.max_label_bytes
    try:
        content: bytes = place.location.read(path, max_bytes=most).data.to_pybytes()
        return content.decode()
    except ReadError as err:
        hint = "; raise limits.max_label_bytes" if err.cause == "too_many_bytes" else ""
        raise LabelsError(f"{place}/{path}: {err}{hint}") from err
    except UnicodeDecodeError as err:
        line = err.object[: err.start].count(b"\n") + 1
        raise LabelsError(
            f"{place}/{path} line {line}: byte 0x{err.object[err.start]:02x} is not UTF-8; "
            "save the file as UTF-8"
        ) from err


def _add(stem: str, sentences: str | None, xml: str | None, builder: PartBuilder) -> None:
    failures: list[Failure] = []
    annotation = _EMPTY
    if xml is not None:
        try:
            annotation = read_annotation(xml)
        except LabelError as err:
            failures.append(fail("labels", err.cause, f"{stem}.xml: {err}"))
    for number, found in annotation.bad:
        failures.append(fail("labels", "bad_labels", f"{stem}.xml: object {number + 1}: {found}"))
    told = _sentences(sentences or "")
    rows = [*_text_rows(told, annotation), *_region_rows(told, annotation)]
    image = {
        "uri": annotation.file_name or f"{stem}.jpg",
        "width": annotation.width,
        "height": annotation.height,
        "source_id": stem,
        "extra": dump({"id": stem, "sentences": sentences, "annotation": xml}),
    }
    builder.add(image, rows, failures)


def _sentences(content: str) -> dict[int, Sentence]:
    """The sentences of a file by the number of their line; blank lines are none."""
    lines = content.removeprefix("\ufeff").split("\n")
    return {i: read_sentence(line.rstrip("\r")) for i, line in enumerate(lines) if line.strip()}


def _things_of(annotation: Annotation) -> dict[str, list[int]]:
    """Numbers of the objects with a box, by entity."""
    things: dict[str, list[int]] = defaultdict(list)
    for number, thing in enumerate(annotation.things):
        for chain in thing.chains if thing.box is not None else ():
            things[chain].append(number)
    return things


def _text_rows(told: Mapping[int, Sentence], annotation: Annotation) -> Iterator[dict[str, Any]]:
    """Each sentence, and behind it its phrases, once for each of their boxes."""
    things = _things_of(annotation)
    for line, sentence in told.items():
        name = f"sentence {line}"
        made = {"kind": "text", "role": "brief", "annotation_id": name, "text": sentence.text}
        yield {**made, "extra": dump({"sentence": line})}
        for number, mention in enumerate(sentence.mentions):
            for thing in things.get(mention.chain, ()):
                record: dict[str, Any] = {"sentence": line, "mention": number, "object": thing}
                record |= {"chain": mention.chain, "types": mention.kinds}
                yield {
                    "kind": "grounding",
                    "role": "phrase",
                    "text": sentence.text[mention.start : mention.end],
                    "text_id": name,
                    "span_start": mention.start,
                    "span_end": mention.end,
                    "region_id": f"object {thing}",
                    "box": annotation.things[thing].box,
                    "extra": dump(record),
                }


def _region_rows(told: Mapping[int, Sentence], annotation: Annotation) -> Iterator[dict[str, Any]]:
    """Each box with the distinct phrases that name it."""
    phrases: dict[str, list[str]] = defaultdict(list)
    for sentence in told.values():
        for mention in sentence.mentions:
            phrases[mention.chain].append(sentence.text[mention.start : mention.end])
    for number, thing in enumerate(annotation.things):
        if thing.box is None:
            continue
        texts = [text for chain in thing.chains for text in phrases.get(chain, ()) if text]
        name = f"object {number}"
        record = dump({"object": number, "chains": thing.chains})
        place = {"kind": "region", "box": thing.box, "extra": record}
        if not texts:
            yield {**place, "role": "proposal", "annotation_id": name}
        for i, text in enumerate(dict.fromkeys(texts)):
            own = {"annotation_id": name} if i == 0 else {"region_id": name}
            yield {**place, "role": "phrase", "text": text, **own}


class _Kept(NamedTuple):
    """What the kept rows of an image speak of."""

    sentences: set[int]
    mentions: set[tuple[int, int]]
    links: set[tuple[int, int, int]]
    things: set[int]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], losses: Losses) -> "_Kept":
        kept = cls(set(), set(), set(), set())
        for row in rows:
            record = own_record(row, is_own=True)
            if record is None:
                losses.note("new rows: only rows of the files themselves are written back")
                continue
            if "object" in record:
                kept.things.add(record["object"])
            if "mention" in record:
                kept.mentions.add((record["sentence"], record["mention"]))
                kept.links.add((record["sentence"], record["mention"], record["object"]))
            elif "sentence" in record:
                kept.sentences.add(record["sentence"])
        return kept


def _thinned(
    record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], losses: Losses
) -> _Files:
    """The two files of an image without what was rejected."""
    kept = _Kept.of(rows, losses)
    content, xml = record["sentences"], record["annotation"]
    annotation = _EMPTY
    if xml is not None:
        with suppress(LabelError):  # such a file gave no rows, so nothing leaves it
            annotation = read_annotation(xml)
        boxed = {i for i, thing in enumerate(annotation.things) if thing.box is not None}
        xml = without_objects(xml, boxed - kept.things)
    if content is None:
        return None, xml
    things = _things_of(annotation)
    left = []
    told = _sentences(content)
    for number, line in enumerate(content.split("\n")):
        if number not in told:
            left.append(line)
        elif number in kept.sentences:
            left.append(_unmarked(number, line, told[number], things, kept, losses))
    return "\n".join(left), xml


def _unmarked(
    number: int,
    line: str,
    sentence: Sentence,
    things: Mapping[str, Sequence[int]],
    kept: _Kept,
    losses: Losses,
) -> str:
    gone = set()
    for place, mention in enumerate(sentence.mentions):
        boxes = things.get(mention.chain, ())
        if boxes and (number, place) not in kept.mentions:
            gone.add(place)
        elif boxes:
            links = {thing for thing in boxes if (number, place, thing) not in kept.links}
            losses.note(
                "rejected phrases that stay: their box and their words do", len(links & kept.things)
            )
    return without_marks(line, gone)
