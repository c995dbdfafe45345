import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.formats.label_studio import LabelStudio
from engine.formats.shapes import Header, LabelSet, Part
from engine.schema import claims, image_rows
from tests.engine.formats.json_label_files import (
    causes,
    column,
    place_of,
    read,
    round_trip,
    saved,
)

SIZE = {"original_width": 200, "original_height": 100, "image_rotation": 0}


def rectangle(name="r1", label="dog", **changes):
    value = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": [label]}
    entry = {"id": name, "type": "rectanglelabels", "from_name": "label", "to_name": "image"}
    return {**entry, **SIZE, "value": {**value, **changes.pop("value", {})}, **changes}


def textarea(name, text, tag="text"):
    value = {"text": [text]}
    return {"id": name, "type": "textarea", "from_name": tag, "to_name": "image", "value": value}


def task(*results, key="predictions", number=1, **changes):
    answers = {key: [{"id": 9, "model_version": "m", "result": list(results)}]}
    return {
        "id": number,
        "data": {"image": "/data/local-files/?d=cats/a.jpg"},
        **answers,
        **changes,
    }


def parts_of(tmp_path, *tasks):
    return read(LabelStudio(), saved(tmp_path / "in.json", list(tasks)))[1]


def images(count=2, **columns):
    keys, uris = [f"k{n}" for n in range(count)], [f"{n}.jpg" for n in range(count)]
    sizes = {"width": [200] * count, "height": [100] * count}
    return image_rows(**{"image_key": keys, "uri": uris, "status": "ok", **sizes, **columns})


def written(tmp_path, imgs, rows, header=None):
    labels = LabelSet(header or Header("yolo"), iter([Part(imgs, rows)]))
    notes = LabelStudio().write(place_of(tmp_path / "out.json"), labels)
    return json.loads((tmp_path / "out.json").read_text()), notes


def test_no_tasks_are_no_parts(tmp_path):
    assert parts_of(tmp_path) == []
    assert round_trip(LabelStudio(), place_of(tmp_path / "in.json"), tmp_path / "out.json") == []
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_a_rectangle_is_a_region_in_pixels(tmp_path):
    (part,) = parts_of(tmp_path, task(rectangle(score=0.5)))
    (row,) = part.rows.to_pylist()
    assert (row["kind"], row["role"], row["text"]) == ("region", "category", "dog")
    assert row["box"] == [20, 20, 80, 60]
    assert (row["score"], row["human"], row["source_id"]) == (0.5, False, "r1")
    (image,) = part.images.to_pylist()
    assert (image["uri"], image["width"], image["height"]) == ("cats/a.jpg", 200, 100)


def test_annotations_are_human_and_scores_of_a_whole_prediction_are_no_rows_score(tmp_path):
    content = task(rectangle(), key="annotations")
    content["annotations"][0]["score"] = 0.9
    parts = parts_of(tmp_path, content)
    assert (column(parts, "human"), column(parts, "score")) == ([True], [None])


def test_texts_are_read_by_what_they_belong_to(tmp_path):
    results = [
        rectangle("a", "Text"),
        textarea("a", "STOP"),
        rectangle("b", "phrase"),
        textarea("b", "a red dog"),
        textarea("c", "a dog", tag="detailed"),
        textarea("d", "a cat", tag="anything"),
        {**rectangle("e"), "type": "rectangle", "value": {"x": 0, "y": 0, "width": 1, "height": 1}},
    ]
    parts = parts_of(tmp_path, task(*results))
    assert column(parts, "role") == ["ocr", "phrase", "detailed", "brief", "proposal"]
    assert column(parts, "text") == ["STOP", "a red dog", "a dog", "a cat", None]


def test_polygons_and_turned_rectangles_have_outlines(tmp_path):
    points = {"points": [[0, 0], [50, 0], [50, 100]], "polygonlabels": ["dog"]}
    polygon = {**rectangle("p"), "type": "polygonlabels", "value": points}
    turned = rectangle("t", value={"x": 50, "y": 0, "width": 10, "height": 10, "rotation": 90})
    parts = parts_of(tmp_path, task(polygon, turned))
    assert column(parts, "polygon")[0] == [[0, 0, 100, 0, 100, 100]]
    assert column(parts, "polygon")[1][0] == pytest.approx(
        [100, 0, 100, 20, 90, 20, 90, 0], abs=1e-4
    )
    assert column(parts, "box")[1] == pytest.approx([90, 0, 100, 20], abs=1e-4)


def test_what_cannot_be_taken_is_told_and_stays_in_the_task(tmp_path):
    content = [
        task(
            rectangle("a", original_width=None),
            rectangle("b", image_rotation=90),
            rectangle("c", value={"x": "far"}),
            rectangle("d"),
            {"type": "choices", "value": {"choices": ["good"]}, "from_name": "q", "id": "q"},
            {"type": "relation", "from_id": "a", "to_id": "d", "direction": "right"},
            {"type": "brushlabels", "value": {"rle": [1, 2], "brushlabels": ["x"]}, "id": "z"},
        ),
        {"id": 2, "data": 5},
        task(number=1),
    ]
    place = saved(tmp_path / "in.json", content)
    _, parts = read(LabelStudio(), place)
    assert column(parts, "source_id") == ["d"]
    assert causes(parts) == [["bad_labels"], ["bad_labels"], ["duplicate_id"]]
    round_trip(LabelStudio(), place, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == content


def test_only_the_rows_given_are_written_back(tmp_path):
    content = task(rectangle("a"), textarea("a", "x"), rectangle("b"), meta={"kept": [1]})
    labels, (part,) = read(LabelStudio(), saved(tmp_path / "in.json", [content]))
    out, _ = written(tmp_path, part.images, part.rows.slice(1), labels.header)
    content["predictions"][0]["result"] = content["predictions"][0]["result"][2:]
    assert out == [content]


VALUES = st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
UNKNOWN = st.dictionaries(st.text(max_size=3).map(lambda key: f"_{key}"), VALUES, max_size=3)
ENTRIES = st.lists(
    st.tuples(st.sampled_from(["box", "text", "choice"]), st.integers(0, 3), UNKNOWN), max_size=5
)


@settings(max_examples=30, deadline=None)
@given(
    tasks=st.lists(st.tuples(UNKNOWN, ENTRIES, ENTRIES), max_size=3),
    indent=st.sampled_from([None, 1]),
)
def test_a_round_trip_changes_nothing_but_formatting(tmp_path_factory, tasks, indent):
    folder = tmp_path_factory.mktemp("ls")

    def entry(kind, number, unknown):
        made = {
            "box": rectangle(f"n{number}"),
            "text": textarea(f"n{number}", "x"),
            "choice": {"type": "choices", "value": {"choices": ["a"]}},
        }
        return {**made[kind], **unknown}

    content = [
        {
            **task(*(entry(*each) for each in first), number=n),
            "annotations": [{"result": [entry(*each) for each in second], **unknown}, 5],
            **unknown,
        }
        for n, (unknown, first, second) in enumerate(tasks)
    ]
    (folder / "in.json").write_text(json.dumps(content, indent=indent), encoding="utf-8")
    place = place_of(folder / "in.json")
    assert round_trip(LabelStudio(), place, folder / "out.json", part_size=2) == []
    again = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert json.dumps(again) == json.dumps(content)


def test_every_source_is_a_prediction_and_people_an_annotation(tmp_path):
    rows = claims(
        image_key=["k0"] * 3,
        annotation_id=["a", "b", "c"],
        kind="region",
        role="category",
        text=["dog", "cat", "dog"],
        box=[[20, 20, 80, 60]] * 3,
        score=[0.1, None, None],
        source=["yolo", "detr", "ann"],
        model=["yolo11n.pt", None, None],
        human=[False, False, True],
    )
    (first, second), notes = written(tmp_path, images(), rows)
    assert notes == []
    assert second == {"data": {"image": "1.jpg"}, "predictions": []}
    assert [p["model_version"] for p in first["predictions"]] == ["yolo/yolo11n.pt", "detr"]
    entry = first["predictions"][0]["result"][0]
    assert (entry["id"], entry["score"], entry["original_width"]) == ("a", 0.1, 200)
    assert entry["value"] == {
        "x": 10,
        "y": 20,
        "width": 30,
        "height": 40,
        "rotation": 0,
        "rectanglelabels": ["dog"],
    }
    assert "score" not in first["predictions"][1]["result"][0]
    assert len(first["annotations"][0]["result"]) == 1


def test_all_kinds_of_rows_come_back(tmp_path):
    rows = claims(
        image_key=["k0"] * 6,
        annotation_id=list("abcdef"),
        kind=["region", "region", "region", "text", "region", "grounding"],
        role=["category", "phrase", "ocr", "detailed", "proposal", "phrase"],
        text=["dog", 'a "dog"\n', "STOP", "a dog \u00e9", None, "dog"],
        box=[[0.1, 0.2, 50.3, 60.4], *[[1, 2, 30, 40]] * 2, None, *[[1, 2, 30, 40]] * 2],
        polygon=[[[0.1, 0.2, 50.3, 0.2, 50.3, 60.4]], None, None, None, None, None],
    )
    (written_task,), notes = written(tmp_path, images(1), rows)
    tags = [e["from_name"] for e in written_task["predictions"][0]["result"]]
    assert tags[:4] == ["outline", "label", "text", "label"]
    assert notes == ["1 phrases are written as regions of their own, without their place in a text"]
    _, parts = read(LabelStudio(), place_of(tmp_path / "out.json"))
    assert column(parts, "role") == ["category", "phrase", "ocr", "detailed", "proposal", "phrase"]
    assert column(parts, "text") == ["dog", 'a "dog"\n', "STOP", "a dog \u00e9", None, "dog"]
    assert column(parts, "source_id") == list("abcdef")
    assert column(parts, "box")[0] == pytest.approx([0.1, 0.2, 50.3, 60.4])
    assert column(parts, "polygon")[0][0] == pytest.approx([0.1, 0.2, 50.3, 0.2, 50.3, 60.4])


def test_what_cannot_be_said_is_counted(tmp_path):
    nan = float("nan")
    rows = claims(
        image_key=["k0", "k0", "k1", "k1"],
        kind="region",
        role="category",
        text="dog",
        box=[[0, 0, 1, 1], [0, 0, 1, 1], [0, nan, 1, 1], [0, 0, 9, 9]],
        polygon=[None, None, None, [[0, 0, 1, 1, 2, 2], [5, 5, 9, 9, 5, 9]]],
    )
    _, notes = written(tmp_path, images(width=[None, 200]), rows)
    assert [note[0] for note in notes] == ["2", "1", "1"]
    assert "the image has none" in notes[0]


def test_new_rows_join_a_task_as_a_prediction(tmp_path):
    content = task(rectangle("a"), key="annotations")
    labels, (part,) = read(LabelStudio(), saved(tmp_path / "in.json", [content]))
    new = claims(
        image_key=["0"], kind="region", role="category", text="cat", box=[[0, 0, 2, 2]], source="y"
    )
    out, _ = written(tmp_path, part.images, pa.concat_tables([part.rows, new]), labels.header)
    assert out[0]["annotations"] == content["annotations"]
    assert [p["model_version"] for p in out[0]["predictions"]] == ["y"]


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (b"", False),
        (b'[{"id": 1, "data": {"image": "a"}, "annotations": [{"result": []}]}]', True),
        (b'[{"data": {"image": "a"}, "predictions": []}]', True),
        (b'[{"id": 1, "data": {}}]', False),
        (b'[{"image_id": 1, "bbox": []}]', False),
        (b'{"data": 1, "annotations": []}', False),
    ],
)
def test_it_knows_its_own_files(tmp_path, head, known):
    assert LabelStudio().recognises(saved(tmp_path / "a.json", head), head) is known
