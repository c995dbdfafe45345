import json
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.formats.coco import Coco
from engine.formats.shapes import Header, LabelSet, Part
from engine.schema import claims, empty_claims, image_rows
from tests.engine.formats.json_label_files import column, image_column, place_of, read, saved


def images(count=2, **columns):
    keys = [f"k{n}" for n in range(count)]
    uris = [f"{n}.jpg" for n in range(count)]
    sizes = {"width": [100] * count, "height": [80] * count}
    return image_rows(**{"image_key": keys, "uri": uris, "status": "ok", **sizes, **columns})


def regions(**columns):
    count = len(next(iter(columns.values())))
    defaults = {"image_key": ["k0"] * count, "kind": "region", "role": "category"}
    return claims(**{**defaults, "text": ["dog"] * count, **columns})


def written(tmp_path, *parts, header=None):
    header = header or Header("yolo")
    notes = Coco().write(place_of(tmp_path / "out.json"), LabelSet(header, iter(parts)))
    return json.loads((tmp_path / "out.json").read_text()), notes


def loaded(path):
    from pycocotools.coco import COCO

    with redirect_stdout(StringIO()):
        return COCO(str(path))


def test_no_images_are_a_file_that_still_loads(tmp_path):
    content, notes = written(tmp_path)
    assert (content["images"], content["annotations"], notes) == ([], [], [])
    assert loaded(tmp_path / "out.json").getImgIds() == []


def test_images_without_rows_are_kept_and_pycocotools_loads_it(tmp_path):
    rows = regions(
        image_key=["k0", "k2", "k2"],
        text=["dog", "cat", "dog"],
        box=[[1, 2, 4, 6], [0, 0, 10, 10], [0.1, 0.1, 0.3, 0.3]],
        score=[0.5, None, 0.1],
        ignore=[False, True, False],
    )
    _, notes = written(tmp_path, Part(images(3), rows), header=Header("yolo", ["person", "cat"]))
    coco = loaded(tmp_path / "out.json")
    assert notes == []
    assert len(coco.getImgIds()) == 3
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["person", "cat", "dog"]
    found = coco.loadAnns(sorted(coco.getAnnIds()))
    assert [each["id"] for each in found] == [1, 2, 3]
    assert [each.get("score") for each in found] == [0.5, None, 0.1]
    assert [each["bbox"] for each in found] == [[1, 2, 3, 4], [0, 0, 10, 10], [0.1, 0.1, 0.2, 0.2]]
    assert [each["iscrowd"] for each in found] == [0, 1, 0]
    assert [each["area"] for each in found] == [12, 100, pytest.approx(0.04)]


def test_outlines_are_written_with_their_area(tmp_path):
    polygons = [
        [[0, 0, 4, 0, 4, 3, 0, 3], [10, 10, 12, 10, 12, 12]],
        None,
        [[1, 1, 2, 2]],
    ]
    rows = regions(box=[[0, 0, 12, 12]] * 3, polygon=polygons)
    content, _ = written(tmp_path, Part(images(), rows))
    assert [each.get("segmentation") for each in content["annotations"]] == polygons
    assert [each["area"] for each in content["annotations"]] == [14, 144, 0]


def test_own_ids_are_kept_where_they_are_numbers_nobody_has(tmp_path):
    first = Part(
        images(3, source_id=["5", "x", "5"]),
        regions(box=[[0, 0, 1, 1]] * 2, source_id=["10", "12"]),
    )
    keys = ["m0", "m1"]
    second = Part(
        images(2, image_key=keys, source_id=["2", "1"]),
        regions(image_key=["m0"] * 2, box=[[0, 0, 1, 1]] * 2, source_id=["3", "10"]),
    )
    content, _ = written(tmp_path, first, second)
    image_ids = [each["id"] for each in content["images"]]
    assert image_ids[0] == 5
    assert len(set(image_ids)) == 5
    ids = [each["id"] for each in content["annotations"]]
    assert ids[:2] == [10, 12]
    assert len(set(ids)) == 4
    assert [each["image_id"] for each in content["annotations"]] == [5, 5, *[image_ids[3]] * 2]


def test_phrases_keep_their_role_and_text(tmp_path):
    rows = regions(
        role=["phrase", "ocr", "proposal", "category"],
        text=['a "red" dog\n', "STOP \u00e9", None, "dog"],
        box=[[0, 0, 1, 1]] * 4,
        text_score=[None, 0.25, None, None],
    )
    _, notes = written(tmp_path, Part(images(), rows))
    assert notes == []
    loaded(tmp_path / "out.json")
    _, parts = read(Coco(), place_of(tmp_path / "out.json"))
    assert column(parts, "role") == ["phrase", "ocr", "proposal", "category"]
    assert column(parts, "text") == ['a "red" dog\n', "STOP \u00e9", None, "dog"]
    assert column(parts, "text_score") == [None, 0.25, None, None]


def test_texts_alone_become_a_captions_file(tmp_path):
    texts = claims(image_key=["k0", "k1"], kind="text", role="brief", text=["a dog", "\u00e9"])
    content, notes = written(tmp_path, Part(images(), texts))
    assert notes == []
    assert "categories" not in content
    coco = loaded(tmp_path / "out.json")
    assert [each["caption"] for each in coco.loadAnns(coco.getAnnIds())] == ["a dog", "\u00e9"]


def test_what_cannot_be_said_is_counted(tmp_path):
    texts = claims(image_key=["k0"], kind="text", role="brief", text="a dog")
    phrase = claims(image_key=["k0"], kind="grounding", role="phrase", text="dog")
    nan = float("nan")
    rows = regions(box=[[0, 0, 1, 1], [0, nan, 1, 1], None])
    content, notes = written(tmp_path, Part(images(), pa.concat_tables([texts, phrase, rows])))
    assert len(content["annotations"]) == 2
    assert "bbox" not in content["annotations"][1]
    assert sorted(note.split(" ")[0] for note in notes) == ["1", "1", "1"]
    assert any("captions in a file of their own" in note for note in notes)


def test_licences_are_numbered(tmp_path):
    content, _ = written(tmp_path, Part(images(3, licence=["CC0", None, "CC0"]), empty_claims()))
    assert content["licenses"] == [{"id": 1, "name": "CC0", "url": ""}]
    assert [each.get("license") for each in content["images"]] == [1, None, 1]


def test_new_rows_join_a_coco_set_under_new_numbers(tmp_path):
    source = {
        "images": [{"id": 5, "file_name": "a.jpg"}],
        "annotations": [{"id": 40, "image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 1]}],
        "categories": [{"id": 3, "name": "dog"}],
    }
    labels, (part,) = read(Coco(), saved(tmp_path / "in.json", source))
    new = regions(image_key=["0", "0"], text=["dog", "cat"], box=[[0, 0, 2, 2]] * 2)
    rows = pa.concat_tables([part.rows, new])
    content, _ = written(tmp_path, part._replace(rows=rows), header=labels.header)
    assert content["annotations"][0] == source["annotations"][0]
    new_ones = content["annotations"][1:]
    assert [(a["id"], a["image_id"], a["category_id"]) for a in new_ones] == [
        (41, 5, 3),
        (42, 5, 4),
    ]
    assert [each["name"] for each in content["categories"]] == ["dog", "cat"]
    assert content["images"] == source["images"]


def test_a_coco_header_without_its_sections_is_no_reason_to_trust_old_numbers(tmp_path):
    rows = regions(box=[[0, 0, 1, 1]], extra=['{"id": 1, "image_id": 5, "category_id": 99}'])
    part = Part(images(extra=['{"id": 5}', None]), rows)
    content, _ = written(tmp_path, part, header=Header("coco", ["dog"]))
    assert content["categories"] == [{"id": 1, "name": "dog", "supercategory": ""}]
    assert content["annotations"][0]["category_id"] == 1
    assert [each["file_name"] for each in content["images"]] == ["0.jpg", "1.jpg"]


def test_names_of_pictures_never_become_paths(tmp_path):
    content, _ = written(tmp_path, Part(images(1, uri=["../../etc/passwd"]), empty_claims()))
    assert content["images"][0]["file_name"] == "../../etc/passwd"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


FLOATS = st.floats(0, 4096, width=32)


@settings(max_examples=40, deadline=None)
@given(
    boxes=st.lists(st.lists(FLOATS, min_size=4, max_size=4), min_size=1, max_size=5),
    text=st.text(max_size=5).filter(lambda text: text.encode("utf-8", "ignore").decode() == text),
    score=st.none() | st.floats(0, 1, width=32),
)
def test_rows_come_back_as_they_were(tmp_path_factory, boxes, text, score):
    folder = tmp_path_factory.mktemp("coco")
    count = len(boxes)
    rings = [[[*box, *box]] for box in boxes]
    rows = regions(box=boxes, text=[text] * count, score=[score] * count, polygon=rings)
    Coco().write(
        place_of(folder / "out.json"), LabelSet(Header("yolo"), iter([Part(images(1), rows)]))
    )
    _, parts = read(Coco(), place_of(folder / "out.json"))
    assert column(parts, "text") == [text] * count
    assert column(parts, "score") == [score] * count
    assert column(parts, "polygon") == rings
    assert image_column(parts, "uri") == ["0.jpg"]
    np.testing.assert_allclose(np.array(column(parts, "box")), boxes, rtol=1e-7, atol=1e-9)
