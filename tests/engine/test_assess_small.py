"""A label version against truth on datasets made by hand: which rows and images count, and how.

Datasets that a run has made are compared in test_assess.
"""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.assess import Version, assess
from engine.errors import ConfigError
from engine.formats.shapes import LabelSet
from engine.job import VERSION
from engine.schema import CLAIM
from tests import shards
from tests.builders import rows
from tests.truths import label_set

BOX, FAR = [0, 0, 4, 3], [5, 3, 8, 6]


def by_hand(tmp_path, *tables: pa.Table):
    """A dataset of a shard each: the images `a`, `b`, ... and those rows."""
    keys = [[f"{chr(97 + i)}"] for i in range(len(tables))]
    place = shards.dataset(tmp_path, *keys)
    for i, table in enumerate(tables):
        shards.commit(place, i, shards.images(*keys[i]), table)
    return place.output


def truth_of(*uris: str, **columns) -> LabelSet:
    return label_set((list(uris), {"kind": "region", "role": "category", **columns}))


def test_truth_that_the_dataset_has_not_is_left_out_or_missed(tmp_path):
    out = by_hand(tmp_path, rows(box=[BOX]))

    def truth():
        return truth_of("a.jpg", "z.jpg", image_key=["0", "1"], text=["thing"] * 2, box=[BOX, BOX])

    left_out = assess(out, VERSION, truth())
    assert left_out.families["boxes"].measures["recall"] == 1.0
    assert left_out.images.missing == ["z.jpg"]
    assert "images of the truth that the dataset has not are left out: 'z.jpg'" in left_out.notes
    missed = assess(out, VERSION, truth(), count_missing=True)
    assert "images of the truth that the dataset has not count as missed: 'z.jpg'" in missed.notes
    assert missed.families["boxes"].measures["recall"] == 0.5
    assert missed.families["boxes"].measures["precision"] == 1.0


def test_captions_of_images_that_the_dataset_has_not_are_missed_too(tmp_path):
    """CIDEr weighs by the images that take part: of one image alone every weight is nil."""
    out = by_hand(tmp_path, rows(kind="text", role="brief", text=["a dog"]))
    columns = {"kind": "text", "role": "brief", "image_key": ["0", "1"], "text": ["a dog", "a cat"]}

    def measures(**options):
        truth = label_set((["a.jpg", "z.jpg"], columns))
        return assess(out, VERSION, truth, **options).families["captions/brief"].measures

    assert (measures()["coverage"], measures()["cider_d"]) == (1.0, 0.0)
    missed = measures(count_missing=True)
    assert missed["coverage"] == 0.5
    assert missed["cider_d"] > 0


def test_claims_that_are_not_to_be_judged_are_left_out_and_told(tmp_path):
    out = by_hand(tmp_path, rows(box=[BOX, FAR], ignore=[False, True]))
    truth = truth_of("a.jpg", image_key=["0"], text=["thing"], box=[BOX])
    found = assess(out, VERSION, truth)
    assert found.families["boxes"].measures["precision"] == 1.0
    assert "1 kept rows marked `ignore` are left out" in found.notes


def test_rows_on_images_without_truth_are_left_out_or_wrong(tmp_path):
    out = by_hand(tmp_path, rows(box=[BOX]), rows(image_key=["b"], box=[BOX]))

    def truth():
        return truth_of("a.jpg", image_key=["0"], text=["thing"], box=[BOX])

    left_out = assess(out, VERSION, truth())
    assert left_out.families["boxes"].measures["precision"] == 1.0
    assert "1 kept rows on images that the truth has not are left out" in left_out.notes
    wrong = assess(out, VERSION, truth(), count_extra=True)
    assert wrong.families["boxes"].measures["precision"] == 0.5
    assert wrong.families["boxes"].measures["recall"] == 1.0


def test_an_image_of_the_truth_without_objects_makes_every_claim_wrong(tmp_path):
    out = by_hand(tmp_path, rows(box=[BOX]), rows(image_key=["b"], box=[BOX]))
    truth = truth_of("a.jpg", "b.jpg", image_key=["0"], text=["thing"], box=[BOX])
    assert assess(out, VERSION, truth).families["boxes"].measures["precision"] == 0.5


def test_a_failed_image_is_missed_and_told(tmp_path):
    place = shards.dataset(tmp_path, ["a", "b"])
    pair = shards.images("a", "b", status=["ok", "failed"], failures=[[], shards.FAILED])
    shards.commit(place, 0, pair, rows(box=[BOX]))
    truth = truth_of("a.jpg", "b.jpg", image_key=["0", "1"], text=["thing"] * 2, box=[BOX] * 2)
    found = assess(place.output, VERSION, truth)
    assert found.families["boxes"].measures["recall"] == 0.5
    assert "1 compared images are failed in the dataset: their truth is missed" in found.notes


def test_a_rule_that_rejects_what_is_wrong_gains_precision_and_costs_nothing(tmp_path):
    out = by_hand(tmp_path, rows(box=[BOX, FAR], text=["dog", "no"]))
    truth = truth_of("a.jpg", image_key=["0"], text=["dog"], box=[BOX])
    (step,) = assess(out, VERSION, truth).families["boxes"].telling_steps()
    assert (step.rule, step.num_rejected) == ("not_kept", 1)
    assert (step.change("precision"), step.change("recall")) == (0.5, 0.0)


def test_classes_that_the_truth_never_has_are_told(tmp_path):
    out = by_hand(tmp_path, rows(box=[BOX, FAR], text=["Dog", "puppy"]))
    truth = truth_of("a.jpg", image_key=["0"], text=["dog"], box=[BOX])
    found = assess(out, VERSION, truth)
    assert "(puppy)" in " ".join(found.notes)
    assert found.families["boxes"].measures["precision"] == 0.5
    assert "no claim has a score" in " ".join(found.notes)
    assert found.families["boxes"].measures["ap"] is None


def test_free_texts_of_regions_are_compared_by_place_and_only_when_asked(tmp_path):
    out = by_hand(tmp_path, rows(box=[BOX], role="phrase", text=["a running dog"]))
    columns = {"image_key": ["0"] * 2, "role": ["phrase", "category"], "box": [BOX] * 2}

    def truth():
        return label_set((["a.jpg"], {"kind": "region", "text": ["dog", "dog"], **columns}))

    assert set(assess(out, VERSION, truth()).families) == {"boxes"}
    found = assess(out, VERSION, truth(), families=["phrase"])
    assert found.families["phrase"].measures["f1"] == 1.0


def test_phrases_are_compared_through_their_captions(tmp_path):
    claimed = rows(
        annotation_id=["t", "g1", "g2"],
        kind=["text", "grounding", "grounding"],
        role=["brief", "phrase", "phrase"],
        text=["a dog and a dog", "a dog", "a dog"],
        text_id=[None, "t", "t"],
        span_start=[None, 0, 10],
        span_end=[None, 5, 15],
        box=[None, BOX, FAR],
    )
    out = by_hand(tmp_path, claimed)
    columns = {name: claimed[name] for name in ("kind", "role", "text", "box")}
    columns |= {name: claimed[name] for name in ("annotation_id", "text_id", "span_end")}

    def truth(starts):
        return label_set((["a.jpg"], {**columns, "image_key": ["0"] * 3, "span_start": starts}))

    found = assess(out, VERSION, truth([None, 0, 10]), families=["grounding"])
    assert found.families["grounding"].measures["recall_at_1"] == 1.0
    crossed = claimed.set_column(CLAIM.names.index("box"), "box", claimed["box"].take([0, 2, 1]))
    other = by_hand(tmp_path / "other", crossed)
    found = assess(other, VERSION, truth([None, 0, 10]), families=["grounding"])
    assert found.families["grounding"].measures["recall_at_1"] == 0.0


def test_the_area_of_an_object_is_that_of_its_record_then_of_its_outline(tmp_path):
    """An object of 100 x 100 px that fills a part of its box: medium by mask, large by box."""
    box = [0, 0, 100, 100]
    out = by_hand(tmp_path, rows(box=[box], score=[0.5]))
    half = [[0, 0, 100, 0, 0, 100]]

    def sizes(**columns):
        truth = truth_of("a.jpg", image_key=["0"], text=["thing"], box=[box], **columns)
        measures = assess(out, VERSION, truth).families["boxes"].measures
        return measures["ar_small"], measures["ar_medium"], measures["ar_large"]

    assert sizes() == (None, None, 1.0)
    assert sizes(polygon=[half]) == (None, 1.0, None)
    assert sizes(polygon=[half], extra=['{"area": 900.5}']) == (1.0, None, None)
    for odd in ('{"area": "x"}', '{"area": -1}', '["area"]', '{"area"', '{"area": 1e999}'):
        assert sizes(extra=[odd]) == (None, None, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_iou": 0}, "min_iou is 0; allowed: above 0, to 1"),
        ({"min_iou": float("nan")}, "min_iou is nan"),
        ({"families": ["box"]}, "family 'box' is not known; known: boxes, ocr, captions"),
        ({"families": ["ocr"]}, "no rows of family 'ocr'; it has: boxes"),
        ({"version": "round-7"}, "no finished shard of version 'round-7'; versions: round-0"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(tmp_path, options, message):
    out = by_hand(tmp_path, rows(box=[BOX]))
    truth = truth_of("a.jpg", image_key=["0"], text=["thing"], box=[BOX])
    with pytest.raises(ConfigError, match=message) as caught:
        assess(out, options.pop("version", VERSION), truth, **options)
    assert "\n" not in str(caught.value)


def test_a_truth_about_other_images_is_refused(tmp_path):
    out = by_hand(tmp_path, rows(box=[BOX]))
    truth = truth_of("z.jpg", image_key=["0"], text=["thing"], box=[BOX])
    with pytest.raises(ConfigError, match=r"named like 'a\.jpg', those of the truth like 'z\.jpg'"):
        assess(out, VERSION, truth)


@pytest.mark.parametrize("truth", [label_set(), label_set((["a.jpg"], {}))], ids=["none", "bare"])
def test_an_empty_truth_is_refused(tmp_path, truth):
    out = by_hand(tmp_path, rows(box=[BOX]))
    with pytest.raises(ConfigError, match="the truth has no rows to compare with"):
        assess(out, VERSION, truth)


def test_a_dataset_without_a_row_is_compared(tmp_path):
    out = by_hand(tmp_path, rows())
    truth = truth_of("a.jpg", image_key=["0"], text=["thing"], box=[BOX])
    measures = assess(out, VERSION, truth).families["boxes"].measures
    assert (measures["precision"], measures["recall"], measures["ap"]) == (None, 0.0, 0.0)


def test_unfinished_shards_are_told(tmp_path):
    place = shards.dataset(tmp_path, ["a"], ["b"])
    shards.commit(place, 0, shards.images("a"), rows(box=[BOX]))
    truth = truth_of("a.jpg", image_key=["0"], text=["thing"], box=[BOX])
    notes = assess(place.output, VERSION, truth).notes
    assert any("only 1 of 2 shards are finished" in note for note in notes)


def test_notes_of_the_truth_are_passed_on(tmp_path):
    out = by_hand(tmp_path, rows(box=[BOX]))
    columns = {"kind": "region", "role": "category", "image_key": ["0"], "text": ["thing"]}
    truth = label_set((["a.jpg"], {**columns, "box": [BOX]}), notes=("two ids stand twice",))
    assert "two ids stand twice" in assess(out, VERSION, truth).notes


def test_images_that_could_be_several_are_told_and_left_out(tmp_path):
    out = by_hand(tmp_path, rows(box=[BOX]))
    columns = {"image_key": ["0", "1", "2"], "text": ["thing"] * 3, "box": [BOX] * 3}
    truth = truth_of("a.jpg", "x/z.jpg", "y/a.jpg", **columns)
    found = assess(out, VERSION, truth)
    assert (found.images.num_compared, found.images.num_ambiguous) == (1, 1)
    assert found.images.ambiguous == ["y/a.jpg"]
    assert any("could be are left out: 'y/a.jpg'" in note for note in found.notes)
    assert found.families["boxes"].measures["num_true"] == 1


def test_every_family_can_miss_what_lies_on_images_that_are_not_there(tmp_path):
    columns = {
        "annotation_id": ["r", "w", "t", "g"],
        "kind": ["region", "region", "text", "grounding"],
        "role": ["category", "ocr", "brief", "phrase"],
        "text": ["dog", "EXIT", "a dog", "a dog"],
        "text_id": [None, None, None, "t"],
        "span_start": [None, None, None, 0],
        "span_end": [None, None, None, 5],
        "box": [BOX, FAR, None, BOX],
    }
    out = by_hand(tmp_path, rows(**columns))
    twice = {name: values * 2 for name, values in columns.items()}
    truth = label_set((["a.jpg", "z.jpg"], {**twice, "image_key": ["0"] * 4 + ["1"] * 4}))
    found = assess(out, VERSION, truth, count_missing=True).families
    assert set(found) == {"boxes", "ocr", "captions/brief", "grounding"}
    assert found["boxes"].measures["recall"] == found["ocr"].measures["recall"] == 0.5
    assert found["boxes"].measures["precision"] == found["ocr"].measures["precision"] == 1.0
    assert found["captions/brief"].measures["coverage"] == 0.5
    assert found["grounding"].measures["recall_at_1"] == 0.5
    json.loads(
        assess(out, VERSION, label_set((["a.jpg"], {**columns, "image_key": ["0"] * 4}))).to_json()
    )


def test_rows_that_no_rule_of_the_run_rejected_come_last(tmp_path):
    place = shards.dataset(tmp_path, ["a"])
    shards.commit(place, 0, shards.images("a"), rows(box=[BOX, FAR], text=["dog", "no"]))
    path = tmp_path / "out" / VERSION / "000000.annotations.parquet"
    table = pq.read_table(path)
    rule = pa.array([None, "relabel"]).dictionary_encode()
    pq.write_table(table.set_column(table.column_names.index("rule"), "rule", rule), path)
    truth = truth_of("a.jpg", image_key=["0"], text=["dog"], box=[BOX])
    steps = assess(place.output, VERSION, truth).families["boxes"].telling_steps()
    assert [(step.rule, step.num_rejected) for step in steps] == [("(other rules)", 1)]


def test_a_truth_version_that_is_not_there_is_refused(tmp_path):
    out = by_hand(tmp_path, rows(box=[BOX]))
    with pytest.raises(ConfigError, match="the truth has no finished shard of version 'gold'"):
        assess(out, VERSION, Version(out, "gold"))
