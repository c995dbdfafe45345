import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import LimitsConfig
from engine.errors import LabelsError
from engine.formats.shapes import Header, LabelSet, Part
from engine.formats.visual_genome import VisualGenome
from engine.schema import claims, image_rows
from tests.engine.formats.json_label_files import (
    causes,
    column,
    image_column,
    place_of,
    read,
    round_trip,
    saved,
)


def region(number, **changes):
    sides = {"x": 10, "y": 20, "width": 30, "height": 40}
    return {"region_id": number, **sides, "phrase": "a dog", "image_id": 1, **changes}


def test_no_images_are_no_parts(tmp_path):
    place = saved(tmp_path / "r.json", [])
    assert read(VisualGenome(), place)[1] == []
    assert round_trip(VisualGenome(), place, tmp_path / "out.json") == []
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_regions_are_phrases(tmp_path):
    content = [{"id": 1, "regions": [region(5), region(6, phrase="\u00e9")]}]
    labels, (part,) = read(VisualGenome(), saved(tmp_path / "r.json", content))
    first, second = part.rows.to_pylist()
    assert (first["kind"], first["role"], first["text"]) == ("region", "phrase", "a dog")
    assert (first["box"], first["score"], first["source_id"]) == ([10, 20, 40, 60], None, "5")
    assert json.loads(second["extra"]) == content[0]["regions"][1]
    assert part.images["uri"].to_pylist() == ["1.jpg"]
    assert "give image_data.json" in labels.header.notes[0]


def test_image_data_tells_names_and_sizes(tmp_path):
    url = "https://host/people/VG_100K_2/1.jpg"
    sizes = [{"image_id": 1, "width": 800, "height": 600, "url": url, "coco_id": None}]
    options = {"annotations": saved(tmp_path / "image_data.json", sizes)}
    content = [{"id": 1, "regions": []}, {"id": 2, "regions": [region(1)]}]
    _, parts = read(VisualGenome(), saved(tmp_path / "r.json", content), **options)
    assert image_column(parts, "uri") == ["VG_100K_2/1.jpg", "2.jpg"]
    assert image_column(parts, "width") == [800, None]
    assert column(parts, "image_key") == ["1"]


def test_what_cannot_be_taken_is_a_failure_of_its_image(tmp_path):
    content = [
        {"id": 1, "regions": [region(1), region(2, x="far"), region(3, phrase=None)]},
        {"id": 2, "regions": 5},
        {"id": 3, "regions": [region(1)]},
        {"regions": []},
        {"id": 3, "regions": []},
    ]
    place = saved(tmp_path / "r.json", content)
    _, parts = read(VisualGenome(), place, part_size=2)
    assert column(parts, "source_id") == ["1", "1"]
    assert causes(parts) == [
        ["bad_labels"],
        ["bad_labels"],
        ["duplicate_id"],
        ["bad_labels"],
        ["duplicate_id"],
    ]
    round_trip(VisualGenome(), place, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())[1] == content[1]


def test_labels_larger_than_the_limit_are_a_failure(tmp_path):
    content = [{"id": 1, "regions": [region(1)] * 50}, {"id": 2, "regions": [region(7)]}]
    limits = LimitsConfig(max_label_bytes=500)
    _, parts = read(VisualGenome(), saved(tmp_path / "r.json", content), limits=limits)
    assert column(parts, "source_id") == ["7"]
    assert causes(parts) == [["too_many_labels"], []]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{}", None),
        ('{"a": 1}', "is one JSON object; wanted region_descriptions"),
        ('[{"id": 1, "regions": [tru]}]', "line 1, byte 2: a record that is no JSON"),
        ('[{"id": 1, "regions": [', "does not end; the file is cut short"),
    ],
)
def test_a_broken_file_is_one_error(tmp_path, content, match):
    place = saved(tmp_path / "r.json", content)
    if match is None:
        assert read(VisualGenome(), place)[1] == []
        return
    with pytest.raises(LabelsError, match=match):
        read(VisualGenome(), place)


VALUES = st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
UNKNOWN = st.dictionaries(st.text(max_size=3).map(lambda key: f"_{key}"), VALUES, max_size=3)


@settings(max_examples=30, deadline=None)
@given(
    images=st.lists(st.tuples(UNKNOWN, st.lists(UNKNOWN, max_size=3)), max_size=4),
    indent=st.sampled_from([None, 1]),
)
def test_a_round_trip_changes_nothing_but_formatting(tmp_path_factory, images, indent):
    folder = tmp_path_factory.mktemp("vg")
    content = [
        {"id": n, "regions": [{**region(10 * n + k), **own} for k, own in enumerate(rows)], **more}
        for n, (more, rows) in enumerate(images)
    ]
    (folder / "in.json").write_text(json.dumps(content, indent=indent), encoding="utf-8")
    place = place_of(folder / "in.json")
    assert round_trip(VisualGenome(), place, folder / "out.json", part_size=2) == []
    again = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert json.dumps(again) == json.dumps(content)


def test_rows_from_elsewhere_become_regions(tmp_path):
    images = image_rows(
        image_key=["a", "b"], uri=["a.jpg", "b.jpg"], status="ok", source_id=["x", "7"]
    )
    rows = claims(
        image_key=["b", "a", "a", "a"],
        kind=["region", "region", "text", "region"],
        role=["category", "phrase", "brief", "proposal"],
        text=["dog", "a red dog", "no", None],
        box=[[0.1, 0.1, 0.3, 0.4], [1, 2, 3, 4], None, [1, 2, 3, 4]],
        score=[0.5, None, None, None],
    )
    labels = LabelSet(Header("yolo"), iter([Part(images, rows)]))
    notes = VisualGenome().write(place_of(tmp_path / "out.json"), labels)
    assert len(notes) == 3
    _, parts = read(VisualGenome(), place_of(tmp_path / "out.json"))
    assert column(parts, "text") == ["a red dog", "dog"]
    assert column(parts, "source_id") == ["1", "2"]
    assert column(parts, "box")[0] == [1, 2, 3, 4]
    assert column(parts, "box")[1] == pytest.approx([0.1, 0.1, 0.3, 0.4])
    assert image_column(parts, "source_id") == ["1", "7"]


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (b"", False),
        (b'[{"regions": [{"region_id": 1382', True),
        (b'[{"id": 1, "regions": [', True),
        (b'[{"image_id": 1, "caption": "a"}]', False),
        (b'{"images": [{"id": 1, "file_name": "a", "regions": []}]}', False),
    ],
)
def test_it_knows_its_own_files(tmp_path, head, known):
    assert VisualGenome().recognises(saved(tmp_path / "a.json", head), head) is known
