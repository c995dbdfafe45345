"""A label version against truth, end to end on a dataset that a run has made.

The measures themselves are tested in test_evaluate_*; real detections in test_assess_photos.
"""

import io
import json

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image
from rich.console import Console

from engine.assess import Version, assess
from engine.compose import compose
from engine.config import parse_config
from engine.errors import ConfigError
from engine.evaluate import score_regions
from engine.formats.shapes import Header, LabelSet, Part
from engine.job import VERSION, Observer
from engine.reading import read_tables
from engine.run import annotate
from engine.schema import CLAIM, canonical
from engine.source.filesystem import open_location
from tests import shards
from tests.builders import rows
from tests.truths import label_set

BOX, FAR = [0, 0, 4, 3], [5, 3, 8, 6]
RULES = ["invalid_box", "min_score", "duplicate_region", "min_area", "orphan"]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    out = tmp_path_factory.mktemp("assess") / "out"
    noisy = {"kind": "null", "num_rows": 12}
    raw = {
        "source": {"uri": "synthetic", "num_images": 24, "shard_size": 5},
        "output": {"uri": str(out)},
        "specialists": [
            {**noisy, "name": "a", "kinds": ["region/category", "region/ocr", "text/brief"]},
            {**noisy, "name": "b"},
            {"kind": "consensus", "sources": ["a", "b"]},
        ],
        "rules": [
            {"rule": "min_score", "limits": {"a": 0.3, "b": 0.2}},
            {"rule": "duplicate_region", "iou": 0.2},
            {"rule": "min_area", "min_area_px": 4000},
        ],
        "runner": {"kind": "serial"},
    }
    annotate(compose(parse_config(raw, (), "test")), Observer())
    return open_location(str(out))


@pytest.fixture(scope="module")
def ledger(output) -> pa.Table:
    tables = [table for _, _, table in read_tables(output, VERSION)]
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


@pytest.fixture(scope="module")
def images(output) -> pa.Table:
    tables = [table for _, table, _ in read_tables(output, VERSION)]
    return pa.concat_tables(tables).combine_chunks()


def some_rows(ledger: pa.Table) -> pa.Table:
    """Every third claim, whatever became of it: a truth that the dataset meets in part."""
    return canonical(ledger.select(CLAIM.names).take(list(range(0, len(ledger), 3))), CLAIM)


def labels(images: pa.Table, true: pa.Table, *, part_size: int = 7) -> LabelSet:
    """The truth as another would write it: other folders, another order, in parts."""
    uris = [f"elsewhere/{uri}" for uri in images["uri"].to_pylist()][::-1]
    keys = images["image_key"].to_pylist()[::-1]
    parts = []
    for start in range(0, len(keys), part_size):
        some = pa.array(keys[start : start + part_size])
        mine = true.filter(pc.is_in(true["image_key"], some))
        places = pc.index_in(mine["image_key"], some).cast(pa.string())
        listed = images.slice(0, len(some))
        listed = listed.set_column(0, "image_key", [[str(i) for i in range(len(some))]])
        listed = listed.set_column(1, "uri", [uris[start : start + part_size]])
        parts.append(Part(listed, mine.set_column(0, "image_key", places)))
    return LabelSet(Header("hand"), iter(parts))


def kept_before(ledger: pa.Table, rule: str | None) -> pa.Table:
    """The rows kept when the turn of a rule comes, as the ledger tells it; null: at the end."""
    later = RULES[RULES.index(rule) :] if rule else []
    alive = [
        row["status"] == "kept" or (row["status"] == "rejected" and row["rule"] in later)
        for row in ledger.select(["status", "rule"]).to_pylist()
    ]
    return ledger.filter(pa.array(alive))


def of_role(table: pa.Table, role: str) -> pa.Table:
    return table.filter(pc.equal(table["role"].cast(pa.string()), role))


def test_every_rule_is_measured_on_the_rows_it_found(output, ledger, images):
    true = some_rows(ledger)
    found = assess(output, VERSION, labels(images, true)).families["boxes"]
    assert [step.rule for step in found.steps] == RULES
    rejecting = [step.rule for step in found.telling_steps()]
    assert set(rejecting) >= {"min_score", "duplicate_region", "min_area"}
    boxes = of_role(true, "category")
    for i, step in enumerate(found.steps):
        before = of_role(kept_before(ledger, step.rule), "category")
        after = kept_before(ledger, RULES[i + 1] if i + 1 < len(RULES) else None)
        for state, claimed in ((step.before, before), (step.after, of_role(after, "category"))):
            expected = score_regions(claimed, boxes)
            assert state == {n: getattr(expected, n) for n in ("precision", "recall", "f1")}
        assert step.num_rejected == len(before) - len(of_role(after, "category"))
    assert found.measures["precision"] == found.steps[-1].after["precision"]
    assert found.measures["num_true"] == len(boxes)


def test_each_step_starts_where_the_one_before_ended(output, ledger, images):
    found = assess(output, VERSION, labels(images, some_rows(ledger)))
    assert set(found.families) == {"boxes", "ocr", "captions/brief"}
    for family in found.families.values():
        for one, following in zip(family.steps, family.steps[1:], strict=False):
            assert one.after == following.before
        for step in family.steps:
            assert step.num_rejected or step.before == step.after


def test_neither_order_nor_parts_of_the_truth_matter(output, ledger, images):
    true = some_rows(ledger)
    one = assess(output, VERSION, labels(images, true, part_size=100))
    many = assess(output, VERSION, labels(images, true, part_size=3))
    for name, family in one.families.items():
        assert family.measures == pytest.approx(many.families[name].measures)
    assert one.images == many.images
    assert one.images.num_by == {"uri": 0, "path": 24, "stem": 0}


def test_a_version_is_right_in_everything_against_itself(output):
    found = assess(output, VERSION, Version(output, VERSION))
    assert found.images.num_by["uri"] == 24
    for name in ("boxes", "ocr"):
        assert (found.families[name].measures["precision"]) == 1.0
        assert (found.families[name].measures["recall"]) == 1.0
    assert found.families["boxes"].measures["ap"] == pytest.approx(1.0)
    assert found.families["captions/brief"].measures["rouge_l"] == pytest.approx(1.0)


def test_superseded_rows_never_count_and_are_told(output, ledger, images):
    replaced = pc.sum(pc.equal(ledger["status"].cast(pa.string()), "superseded")).as_py()
    assert replaced
    found = assess(output, VERSION, labels(images, some_rows(ledger)))
    assert f"{replaced:,} superseded rows are left out" in " ".join(found.notes)
    rejected = sum(step.num_rejected for step in found.families["boxes"].steps)
    boxes = of_role(ledger, "category")
    assert found.families["boxes"].measures["num_claimed"] + rejected == len(boxes) - replaced


def test_one_source_alone(output, ledger, images):
    true = labels(images, some_rows(ledger))
    found = assess(output, VERSION, true, source="b", families=["boxes"])
    kept = kept_before(ledger, None)
    mine = kept.filter(pc.equal(kept["source"].cast(pa.string()), "b"))
    assert found.families["boxes"].measures["num_claimed"] == len(mine)
    everything = assess(output, VERSION, labels(images, some_rows(ledger)), source="b")
    assert set(everything.families) == {"boxes", "ocr"}  # captions are another's
    assert everything.families["ocr"].measures["num_claimed"] == 0
    with pytest.raises(ConfigError, match="no row is of source 'c'; sources: a, b, consensus"):
        assess(output, VERSION, labels(images, some_rows(ledger)), source="c")


def test_json_says_all_and_rounds_nothing(output, ledger, images):
    found = assess(output, VERSION, labels(images, some_rows(ledger)))
    told = json.loads(found.to_json())
    boxes = told["families"]["boxes"]
    assert boxes["measures"] == found.families["boxes"].measures
    step = next(step for step in boxes["steps"] if step["rule"] == "min_score")
    change = step["after"]["recall"] - step["before"]["recall"]
    assert step["change"]["recall"] == change < 0
    assert told["images"]["num_compared"] == 24


def test_tables_name_every_rule_and_class(output, ledger, images):
    found = assess(output, VERSION, labels(images, some_rows(ledger)))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(found.tables())
    text = console.export_text()
    for word in (*RULES, "boxes", "ocr", "captions/brief", "kite", "CIDEr-D", "AP50", "note:"):
        assert word in text


def test_the_plot_is_a_picture(output, ledger, images, tmp_path):
    found = assess(output, VERSION, labels(images, some_rows(ledger)))
    found.plot(tmp_path / "steps.png")
    with Image.open(tmp_path / "steps.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20
    with pytest.raises(ConfigError, match=r"steps\.png: No such file or directory; give"):
        found.plot(tmp_path / "none" / "steps.png")
    texts = assess(output, VERSION, labels(images, some_rows(ledger)), families=["captions"])
    with pytest.raises(ConfigError, match="nothing to plot"):
        texts.plot(tmp_path / "steps.png")


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
