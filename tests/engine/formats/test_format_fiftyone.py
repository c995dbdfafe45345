"""FiftyOne's samples on disk: any label field read, ours written."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import foreign, place_of, read, small_limits, write
from PIL import Image

from engine.errors import LabelsError
from engine.formats.fiftyone import FiftyOne
from engine.formats.json_array import read_array
from engine.formats.shapes import Place
from engine.source.filesystem import open_location

KIND = FiftyOne()
SAMPLE = {
    "_id": {"$oid": "64b0000000000000000000aa"},
    "filepath": "data/a.jpg",
    "tags": ["train"],
    "metadata": {"_cls": "ImageMetadata", "width": 200, "height": 100},
    "uniqueness": 0.125,
    "ground_truth": {
        "_cls": "Detections",
        "detections": [
            {
                "_id": {"$oid": "64b0000000000000000000bb"},
                "_cls": "Detection",
                "label": "dog",
                "bounding_box": [0.1, 0.2, 0.3, 0.4],
                "mask": {"$binary": {"base64": "AA==", "subType": "00"}},
                "attributes": {},
            },
            {
                "_cls": "Detection",
                "label": "cat",
                "bounding_box": [0, 0, 1, 1],
                "confidence": 0.5,
                "iscrowd": 1,
            },
        ],
    },
    "weather": {"_cls": "Classification", "label": "sunny", "confidence": 0.9, "logits": None},
    "outlines": {
        "_cls": "Polylines",
        "polylines": [
            {
                "_cls": "Polyline",
                "label": "tree",
                "points": [[[0.5, 0.5], [1, 0.5], [1, 1]]],
                "closed": True,
                "filled": True,
            }
        ],
    },
    "eval": None,
}


def folder_of(tmp_path, *samples, metadata='{"name": "x", "version": "1.2"}', text=None):
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    (folder / "metadata.json").write_text(metadata)
    content = json.dumps({"samples": samples}) if text is None else text
    (folder / "samples.json").write_text(content, encoding="utf-8")
    return folder


def rewritten(tmp_path, told, keep=lambda _: True):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    notes = write(KIND, out, told, keep)
    return json.loads((out / "samples.json").read_text(encoding="utf-8"))["samples"], notes


def test_an_empty_dataset_comes_back(tmp_path):
    folder = folder_of(tmp_path)
    assert KIND.recognises(place_of(folder), b"")
    told = read(KIND, folder)
    assert told.images == []
    assert rewritten(tmp_path, told)[0] == []
    with pytest.raises(LabelsError, match=r"holds no samples\.json"):
        read(KIND, tmp_path)


def test_every_field_of_labels_is_read_and_every_sample_comes_back(tmp_path):
    other = {"filepath": "b.jpg", "tags": [], "more": {"deep": [1, None, "\u00e9"]}}
    told = read(KIND, folder_of(tmp_path, SAMPLE, other), part_size=1)
    assert told.failures == []
    shown = [(row["kind"], row["role"], row["text"], row["ignore"]) for row in told.rows]
    assert shown == [
        ("region", "category", "dog", False),
        ("region", "category", "cat", True),
        ("text", "alt", "sunny", False),
        ("region", "category", "tree", False),
    ]
    np.testing.assert_allclose(told.rows[0]["box"], [20, 20, 80, 60], rtol=1e-6)
    assert told.rows[0]["source_id"] == "64b0000000000000000000bb"
    assert told.rows[3]["polygon"] == [[100, 50, 200, 50, 200, 100]]
    assert told.rows[3]["box"] == [100, 50, 200, 100]
    assert (told.images[0]["width"], told.images[0]["height"]) == (200, 100)
    assert rewritten(tmp_path, told) == ([SAMPLE, other], [])
    out = tmp_path / "out" / "metadata.json"
    assert out.read_bytes() == (tmp_path / "in" / "metadata.json").read_bytes()


def test_rejected_labels_leave_and_all_else_stays(tmp_path):
    told = read(KIND, folder_of(tmp_path, SAMPLE))
    (sample,), _ = rewritten(tmp_path, told, lambda row: row["text"] in ("cat", "tree"))
    expected = json.loads(json.dumps(SAMPLE))
    del expected["ground_truth"]["detections"][0]
    expected["weather"] = None
    assert sample == expected


def test_sizes_come_from_pictures_where_samples_do_not_tell_them(tmp_path):
    bare = {name: value for name, value in SAMPLE.items() if name != "metadata"}
    with pytest.raises(LabelsError, match=r"samples\.json sample 0: .*source\.images"):
        read(KIND, folder_of(tmp_path, bare))
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (200, 100)).save(photos / "a.jpg")
    told = read(KIND, folder_of(tmp_path, bare, {**bare, "filepath": "gone.jpg"}), images=photos)
    np.testing.assert_allclose(told.rows[0]["box"], [20, 20, 80, 60], rtol=1e-6)
    assert [failure[0] for failure in told.failures] == ["gone.jpg"]


@pytest.mark.parametrize(
    "label",
    [
        {"_cls": "Detection", "label": None, "bounding_box": [0, 0, 1, 1]},
        {"_cls": "Detection", "label": "x", "bounding_box": [0, 0, 1]},
        {"_cls": "Detection", "label": "x", "bounding_box": ["a", 0, 1, 1]},
        {"_cls": "Detection", "label": "x", "bounding_box": [0, 0, 1, 1], "confidence": "high"},
        {"_cls": "Detection", "label": "x", "bounding_box": [10**400, 0, 1, 1]},
        {"_cls": "Detection", "label": "\ud800", "bounding_box": [0, 0, 1, 1]},
        {"_cls": "Polyline", "label": "x", "points": [[[0, float("nan")]]]},
        {"_cls": "Polyline", "label": "x", "points": [[]]},
        {"_cls": "Classification", "label": "x", "confidence": float("nan")},
        {},
        "dog",
    ],
)
def test_labels_that_cannot_be_taken_are_failures_and_stay(tmp_path, label):
    sample = {**SAMPLE, "weather": None, "outlines": None}
    sample["ground_truth"] = {"_cls": "Detections", "detections": [label]}
    told = read(KIND, folder_of(tmp_path, sample))
    assert told.rows == []
    ((_, cause, message),) = told.failures
    assert cause == "bad_labels"
    assert "ground_truth[0]" in message
    assert repr(rewritten(tmp_path, told, lambda _: False)[0]) == repr([sample])


def test_half_a_character_elsewhere_in_a_sample_stays(tmp_path):
    sample = {**SAMPLE, "note": "caf\u00e9 \ud800"}
    text = json.dumps({"samples": [sample]}).replace("\\u00e9", "\u00e9")
    told = read(KIND, folder_of(tmp_path, text=text))
    (left,), _ = rewritten(tmp_path, told, lambda row: row["text"] != "dog")
    assert left["note"] == sample["note"]


def test_broken_boxes_are_claims(tmp_path):
    labels = [
        {"_cls": "Detection", "label": "x", "bounding_box": [float("nan"), 0, float("inf"), 1]},
        {"_cls": "Detection", "label": "x", "bounding_box": [0.5, 0.5, -0.2, 0]},
    ]
    sample = {**SAMPLE, "ground_truth": {"_cls": "Detections", "detections": labels}}
    rows = read(KIND, folder_of(tmp_path, sample)).rows
    assert np.isnan(rows[0]["box"][0])
    np.testing.assert_allclose(rows[1]["box"], [100, 50, 60, 50], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: wanted a JSON object"),
        ("[]", "line 1: wanted a JSON object"),
        ('{"name": 1, "samples": []}', "wanted a JSON object"),
        ('{"samples": [\n{"filepath": "a"}\n{}]}', "line 3: wanted a comma"),
        ('{"samples": [{"filepath": ', "record 0"),
        ('{"samples": [], "more": 1}', "something follows samples"),
        ('{"samples": []} x', "something follows samples"),
        ('{"samples": [' + "[" * 200_000, "record 0"),
        ('{"samples": ["' + "x" * 300_000, "record 0|longer than"),
    ],
)
def test_files_of_another_shape_are_one_clear_error(tmp_path, text, message):
    with pytest.raises(LabelsError, match=message):
        read(KIND, folder_of(tmp_path, text=text))


def test_a_record_without_end_is_refused_before_it_is_held(tmp_path):
    folder = folder_of(tmp_path, text='{"samples": ["' + "x" * 2_000_000)
    with pytest.raises(LabelsError, match="longer than 100000 bytes"):
        read(KIND, folder, limits=small_limits(100_000))


def test_samples_without_a_name_are_told_and_stay(tmp_path):
    samples = [{"tags": []}, 5, {"filepath": ""}, {"filepath": "\ud800.jpg"}]
    told = read(KIND, folder_of(tmp_path, *samples))
    assert [image["status"] for image in told.images] == ["failed"] * 4
    assert rewritten(tmp_path, told)[0] == samples


def test_rows_from_elsewhere_come_back_from_the_samples_they_became(tmp_path):
    region = {
        "uri": "a.jpg",
        "kind": "region",
        "role": "brief",
        "text": "a dog",
        "source": "yolo",
        "box": [20, 30, 40, 50.5],
        "score": 0.5,
        "annotation_id": "r1",
        "region_id": "r1",
    }
    told = foreign(
        [{"uri": "a.jpg", "width": 200, "height": 100}, {"uri": "b.jpg"}],
        [
            region,
            {
                **region,
                "annotation_id": "r2",
                "polygon": [[20, 30, 40, 30, 40, 50.5]],
                "ignore": True,
                "score": None,
                "region_id": "r2",
                "source_id": "7",
            },
            {
                "uri": "a.jpg",
                "kind": "text",
                "role": "detailed",
                "text": "a dog sits",
                "annotation_id": "t1",
                "text_score": 0.25,
            },
            {
                "uri": "a.jpg",
                "kind": "grounding",
                "role": "phrase",
                "text": "a dog",
                "text_id": "t1",
                "span_start": 0,
                "span_end": 5,
                "box": [20, 30, 40, 50],
            },
            {**region, "uri": "b.jpg"},
            {**region, "box": [float("nan"), 0, 1, 1]},
        ],
    )
    samples, notes = rewritten(tmp_path, told)
    assert [note[:2] for note in notes] == ["2 "]
    assert samples[0]["detections"]["detections"][0]["confidence"] == 0.5
    back = read(KIND, tmp_path / "out")
    assert back.failures == []
    plain, outlined, phrase = (row for row in back.rows if row["kind"] != "text")
    (text,) = (row for row in back.rows if row["kind"] == "text")
    np.testing.assert_allclose(plain["box"], [20, 30, 40, 50.5], rtol=1e-5)
    np.testing.assert_allclose(outlined["polygon"], [[20, 30, 40, 30, 40, 50.5]], rtol=1e-5)
    assert (plain["ignore"], outlined["ignore"]) == (False, True)
    assert (plain["role"], plain["score"], text["text_score"]) == ("brief", 0.5, 0.25)
    assert phrase["text_id"] == text["annotation_id"]
    assert phrase["kind"] == "grounding"
    (tmp_path / "again").mkdir()
    write(KIND, tmp_path / "again", back, lambda row: row["kind"] != "text")
    left = json.loads((tmp_path / "again" / "samples.json").read_text())["samples"][0]
    assert left["polylines"] == samples[0]["polylines"]
    write(KIND, tmp_path / "again", back, lambda row: not row["ignore"])
    left = json.loads((tmp_path / "again" / "samples.json").read_text())["samples"][0]
    assert left["polylines"]["polylines"] == []
    assert len(left["detections"]["detections"]) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4),
    indent=st.sampled_from([None, 0, 3]),
)
def test_an_array_is_read_as_json_reads_it_whatever_it_holds(tmp_path_factory, values, indent):
    folder = tmp_path_factory.mktemp("any")
    (folder / "x.json").write_text(json.dumps({"rows": values}, indent=indent) + "\n")
    place = Place(open_location(str(folder)), "x.json")
    records = list(read_array(place, "rows", 1_000_000))
    assert repr([record.value for record in records]) == repr(values)
    assert repr([json.loads(record.text) for record in records]) == repr(values)


@settings(max_examples=25, deadline=None)
@given(more=st.dictionaries(st.text(), JSON, max_size=4))
def test_any_further_members_of_samples_come_back(tmp_path_factory, more):
    tmp_path = tmp_path_factory.mktemp("any")
    sample = {**more, **SAMPLE}
    told = read(KIND, folder_of(tmp_path, sample))
    (back,), _ = rewritten(tmp_path, told, lambda row: row["text"] != "dog")
    assert len(back["ground_truth"]["detections"]) == 1
    back["ground_truth"] = sample["ground_truth"]
    assert repr(back) == repr(sample)
