"""The per-image view of kept rows: who is in it, how rows become regions, and its spelling."""

import json

import pyarrow as pa
import pytest

from engine.nested import nested_views, to_json
from engine.schema import ANNOTATIONS, claims, empty_claims
from tests.builders import rows
from tests.shards import images, verdicts


def views(images_table, annotations):
    return list(nested_views(images_table, annotations))


def test_no_images_give_no_views():
    assert views(images(), ANNOTATIONS.empty_table()) == []


def test_an_image_without_rows_has_an_empty_view():
    (view,) = views(images("a"), verdicts(empty_claims()))
    expected = {"image_key": "a", "uri": "a.jpg", "width": 8, "height": 6, "sha256": "aaaa"}
    assert view["image"] == {**expected, "format": "jpeg"}
    assert (view["texts"], view["regions"], view["grounding"]) == ([], [], [])


def test_only_ok_images_are_seen_and_in_their_order():
    table = images("c", "a", "b", "d", status=["ok", "failed", "duplicate", "ok"])
    seen = views(table, verdicts(rows(image_key=["a", "d", "c"], text=["1", "2", "3"])))
    assert [view["image"]["image_key"] for view in seen] == ["c", "d"]
    assert [view["regions"][0]["texts"][0]["text"] for view in seen] == ["3", "2"]


def test_only_kept_rows_are_seen():
    (view,) = views(images("a"), verdicts(rows(text=["yes", "no"], kind="text", role="brief")))
    assert [text["text"] for text in view["texts"]] == ["yes"]


def test_rows_of_one_region_are_one_region_with_several_texts():
    table = rows(
        region_id=["r", "s", "r"],
        role=["category", "proposal", "phrase"],
        text=["dog", None, "a brown dog"],
        box=[[0, 0, 4, 3], [1, 1, 2, 2], None],
        polygon=[[[0, 0, 4, 0, 4, 3]], None, None],
        score=[0.5, None, None],
    )
    (view,) = views(images("a"), verdicts(table))
    first, second = view["regions"]
    assert [text["text"] for text in first["texts"]] == ["dog", "a brown dog"]
    assert (first["region_id"], first["box"], first["score"]) == ("r", [0, 0, 4, 3], 0.5)
    assert first["polygon"] == [[0, 0, 4, 0, 4, 3]]
    assert "text" not in second["texts"][0]
    assert "score" not in second


def test_a_mask_adds_its_outline_to_the_region_and_no_second_text_or_score():
    table = rows(
        region_id=["r", "r", "r"],
        role=["category", "brief", "category"],
        text=["dog", "a brown dog", "dog"],
        box=[[0, 0, 4, 3]] * 3,
        polygon=[None, None, [[0, 0, 4, 0, 4, 3]]],
        score=[0.5, None, 0.9],
        text_score=[None, -0.5, None],
        source=["yolo", "region_caption", "segmenter"],
    )
    (view,) = views(images("a"), verdicts(table))
    (region,) = view["regions"]
    assert list(region) == ["region_id", "box", "polygon", "score", "texts"]
    assert (region["box"], region["score"]) == ([0, 0, 4, 3], 0.5)
    assert region["polygon"] == [[0, 0, 4, 0, 4, 3]]
    assert [(text["text"], text["source"]) for text in region["texts"]] == [
        ("dog", "yolo"),
        ("a brown dog", "region_caption"),
    ]


def test_a_region_without_a_score_takes_none_from_its_mask():
    table = rows(
        region_id=["r", "r"],
        box=[[0, 0, 4, 3]] * 2,
        polygon=[None, [[0, 0, 4, 0, 4, 3]]],
        score=[None, 0.9],
    )
    (view,) = views(images("a"), verdicts(table))
    (region,) = view["regions"]
    assert "score" not in region
    assert len(region["texts"]) == 1


def test_grounding_names_its_text_and_its_span():
    table = claims(
        image_key=["a", "a"],
        annotation_id=["t", "g"],
        kind=["text", "grounding"],
        role=["brief", "phrase"],
        text=["a dog sits", "a dog"],
        text_id=[None, "t"],
        span_start=[None, 0],
        span_end=[None, 5],
        box=[None, [0, 0, 4, 3]],
        source="composer",
    )
    (view,) = views(images("a"), verdicts(table))
    (phrase,) = view["grounding"]
    assert (phrase["text_id"], phrase["span"], phrase["box"]) == ("t", [0, 5], [0, 0, 4, 3])
    assert view["texts"][0]["text"][slice(*phrase["span"])] == phrase["text"]


def test_numbers_show_the_digits_of_a_float32_and_no_more():
    (view,) = views(images("a"), verdicts(rows(score=[0.1], box=[[0.3, 0, 1e-7, 4095.9]])))
    assert to_json(view["regions"][0]["score"]) == b"0.1"
    assert to_json(view["regions"][0]["box"]) == b"[0.3,0.0,1e-07,4095.9]"
    assert pa.scalar(0.1, pa.float32()).as_py() != 0.1


@pytest.mark.parametrize("text", ["caf\u00e9 \u4e2d\u6587 \U0001f600", 'a "quoted"\nline', ""])
def test_json_is_utf8_and_reads_back(text):
    (view,) = views(images("a"), verdicts(rows(text=[text])))
    spelled = to_json(view)
    assert json.loads(spelled) == view
    assert json.dumps(text, ensure_ascii=False).encode() in spelled
