"""COCO: instances, captions and keypoints, lists of results, and its kin LVIS and Objects365."""

from contextlib import ExitStack
from typing import Any, ClassVar

from engine.errors import LabelsError
from engine.formats.coco_classes import read_classes, read_licences
from engine.formats.coco_index import ANNOTATIONS, CATEGORIES, IMAGES, LICENCES, Index, index
from engine.formats.coco_parts import Listed, Parts
from engine.formats.coco_rows import RowMaker
from engine.formats.coco_write import write_coco
from engine.formats.json_decode import Codes, outline
from engine.formats.json_file import JsonFile
from engine.formats.shapes import Header, LabelSet, Place, ReadOptions

_OF_ANNOTATION = {"bbox", "segmentation", "caption", "keypoints", "category_id", "segments_info"}


class Coco:
    """Labels in COCO's JSON.

    One object with `images`, `annotations` and `categories`, or a list of results. Boxes become
    regions of role `category`, captions texts of role `brief`; keypoints, masks in run-length form
    and whatever else a record holds stay in `extra`. `iscrowd` and `ignore` become `ignore`.
    Results rest on another file: `options.annotations` names their images and classes; without it
    images are named by their ids and classes by their numbers.

    Annotations are written by image, in the order of the images; those of one image keep theirs.
    """

    name: ClassVar[str] = "coco"
    is_folder: ClassVar[bool] = False

    def recognises(self, place: Place, head: bytes) -> bool:
        """Whether the first bytes are of such a file; see `Format`."""
        keys = outline(head)
        if "[]" in keys:
            return "image_id" in keys[""] and bool(keys[""] & _OF_ANNOTATION)
        if not keys:
            return False
        images, annotations = keys.get(f"[{IMAGES}]", set()), keys.get(f"[{ANNOTATIONS}]", set())
        is_image = "id" in images and bool(images & {"file_name", "coco_url"})
        return is_image or "image_id" in annotations or {IMAGES, ANNOTATIONS} <= keys[""]

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """Labels in parts, after one pass over the whole file; see `Format`."""
        with ExitStack() as opened:
            file = _open(place, opened)
            found = index(file)
            _check(found, file.name)
            listed, sections, notes = self._listed(found, file, options, opened)
            classes = read_classes(sections.get(CATEGORIES), options.classes, file.name)
            has_numbers = len(found.annotations.ids) and not found.has_captions
            if has_numbers and not classes.are_known:
                notes.append("the labels list no categories: classes are named by their numbers")
            licences = read_licences(sections.get(LICENCES))
            maker = RowMaker(classes, file.name)
            parts = Parts(file, found, listed, maker, licences, options)
            opened.pop_all()
        notes = [*found.stray, *notes, *classes.notes]
        content = _content(found, listed, sections)
        return LabelSet(Header("coco", classes.names, content, notes), parts.read())

    def _listed(
        self, found: Index, file: JsonFile, options: ReadOptions, opened: ExitStack
    ) -> tuple[Listed, dict[str, str | None], list[str]]:
        """Where the images are listed, with the sections of that file, and what is to be told."""
        if IMAGES in found.sections:
            return Listed(file, found.images, True), found.sections, []
        if options.annotations is None:
            note = "no list of images: they are named by their ids; give source.annotations"
            return Listed(None, found.images, False), found.sections, [note]
        other_file = _open(options.annotations, opened)
        other = index(other_file, images_only=True, ids=found.ids)
        if IMAGES not in other.sections:
            raise LabelsError(
                f"{other_file.name}: holds no `images`; give the labels that the results belong to"
            )
        return Listed(other_file, other.images, True), other.sections, []

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Writes one file; see `Format` and `engine.formats.coco_write`."""
        return write_coco(place, labels)


def _open(place: Place, opened: ExitStack) -> JsonFile:
    file = JsonFile(place)
    opened.callback(file.close)
    return file


def _check(found: Index, where: str) -> None:
    """Refuses what is no COCO file at all."""
    for key in (IMAGES, ANNOTATIONS):
        if found.sections.get(key) is not None:
            raise LabelsError(f"{where}: `{key}` is no array; wanted a list of records")
    if not found.is_list and not {IMAGES, ANNOTATIONS} & found.sections.keys():
        raise LabelsError(
            f"{where}: holds neither `images` nor `annotations`; wanted COCO's keys, or a list of "
            "results"
        )


def _content(found: Index, listed: Listed, sections: dict[str, str | None]) -> dict[str, Any]:
    """What `write_coco` needs to write the set again, as plain JSON data."""
    if found.is_list:
        sections = {key: text for key, text in sections.items() if key == CATEGORIES}
    return {
        "layout": "results" if found.is_list else "dataset",
        "sections": sections,
        "next_annotation_id": _next(found.annotations.ids),
        "next_image_id": _next(listed.images.ids),
    }


def _next(ids: Codes) -> int:
    return max(int(ids.max(initial=0)), 0) + 1
