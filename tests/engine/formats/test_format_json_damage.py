"""Files damaged at random: rows, failures or one clear error, never anything else."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import LabelsError
from engine.formats.coco import Coco
from engine.formats.label_studio import LabelStudio
from engine.formats.visual_genome import VisualGenome
from tests.engine.formats.json_label_files import place_of, read, round_trip

BOX = {"x": 1.5, "y": 2, "width": 3, "height": 4}
ENTRY = {"id": "a", "type": "rectanglelabels", "original_width": 9, "original_height": 9}
TURNED = {**ENTRY, "id": "b", "score": 0.5, "value": {**BOX, "rotation": 30}}
OUTLINED = {**ENTRY, "id": "c", "type": "polygon", "value": {"points": [[1, 2], [3, 4], [5, 6]]}}
WHOLE = {
    "coco": {
        "info": {"year": 2017},
        "images": [{"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 1, "segmentation": [[1, 2, 3, 4, 5, 6]]},
            {"id": 3, "image_id": 1, "caption": 'a "dog" \u00e9', "score": 0.5},
            {"image_id": 1, "category_id": 1, "segmentation": {"counts": "04", "size": [2, 2]}},
        ],
        "categories": [{"id": 1, "name": "dog"}],
    },
    "results": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}] * 2,
    "visual_genome": [{"id": 1, "regions": [{"region_id": 1, "phrase": "a dog", **BOX}] * 2}],
    "label_studio": [
        {
            "id": 1,
            "data": {"image": "a.jpg"},
            "annotations": [{"result": [{**ENTRY, "value": {**BOX, "rectanglelabels": ["dog"]}}]}],
            "completions": [{"result": [TURNED, OUTLINED]}],
            "predictions": [{"result": [{"type": "textarea", "value": {"text": ["a"]}}]}],
        }
    ],
}
KINDS = {
    "coco": Coco(),
    "results": Coco(),
    "visual_genome": VisualGenome(),
    "label_studio": LabelStudio(),
}
PIECES = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"NaN", b"-1e999", b"\xff", b""]
CUTS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.sampled_from(PIECES)), max_size=3)


def is_told(kind, folder):
    """Reads and writes the file, or gets one line that names it."""
    message = "in.json"
    try:
        read(kind, place_of(folder / "in.json"), part_size=1)
        round_trip(kind, place_of(folder / "in.json"), folder / "out.json")
    except LabelsError as err:
        message = str(err)
    assert "in.json" in message
    assert "\n" not in message


@settings(max_examples=75, deadline=None)
@pytest.mark.parametrize("name", WHOLE)
@given(cuts=CUTS, end=st.floats(0.5, 1))
def test_damage_is_told_or_does_no_harm(tmp_path_factory, name, cuts, end):
    folder = tmp_path_factory.mktemp("damage")
    text = json.dumps(WHOLE[name], ensure_ascii=False).encode()
    for place, length, piece in cuts:
        at = int(place * len(text))
        text = text[:at] + piece + text[at + length :]
    if end < 0.7:
        text = text[: int(end * len(text))]
    (folder / "in.json").write_bytes(text)
    is_told(KINDS[name], folder)
    assert (folder / "in.json").read_bytes() == text


SPOILERS = [None, True, -1, 1e300, "", "x", [], [[]], {}, [1, [2]], {"a": None}, 2**80]


def spoiled(content, path, value):
    """The content with another value at a place inside it."""
    if not path:
        return value
    step, *rest = path
    if isinstance(content, dict):
        key = sorted(content)[step % len(content)] if content else "new"
        return {**content, key: spoiled(content.get(key), rest, value)}
    if isinstance(content, list) and content:
        at = step % len(content)
        return [*content[:at], spoiled(content[at], rest, value), *content[at + 1 :]]
    return value


@settings(max_examples=75, deadline=None)
@pytest.mark.parametrize("name", WHOLE)
@given(
    path=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    value=st.sampled_from(SPOILERS),
)
def test_values_of_another_kind_are_told_or_do_no_harm(tmp_path_factory, name, path, value):
    folder = tmp_path_factory.mktemp("spoiled")
    content = spoiled(WHOLE[name], path, value)
    (folder / "in.json").write_text(json.dumps(content), encoding="utf-8")
    is_told(KINDS[name], folder)
