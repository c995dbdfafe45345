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


def test_the_order_of_the_rules_can_be_told(output, ledger, images):
    """Where another version has other rules than the run; those not named follow."""
    true = some_rows(ledger)
    told = assess(output, VERSION, labels(images, true), rules=["min_area", "orphan"])
    usual = assess(output, VERSION, labels(images, true))
    steps = told.families["boxes"].steps
    assert [step.rule for step in steps][:3] == ["min_area", "orphan", "invalid_box"]
    rejected = {step.rule: step.num_rejected for step in usual.families["boxes"].steps}
    assert {step.rule: step.num_rejected for step in steps} == rejected
    assert steps[0].before == usual.families["boxes"].steps[0].before
    assert steps[-1].after == usual.families["boxes"].steps[-1].after
    assert steps[0].after != usual.families["boxes"].steps[0].after
