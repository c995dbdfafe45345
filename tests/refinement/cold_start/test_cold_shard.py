"""Rows of a new specialist beside what a version holds: judged, numbered, nothing else moved."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.judge import RuleEntry
from engine.reading import read_tables
from engine.sink import Target
from engine.versions import Version
from refinement.cold_start.shard import ColdSpec, add_shard, round_of
from tests.predicting import predict_in
from tests.shards import NotKept
from tests.stored_dataset import OK, make_dataset
from tests.teller import Teller


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset and what a specialist says of it, but of image j, where it fails."""
    folder = tmp_path_factory.mktemp("told")
    output = make_dataset(folder)
    said = predict_in(folder, Teller(name="cold", tells="no", fails_on="j-"))
    return folder, output, said.place


def added(made, tmp_path, **values):
    """Markers and rows of a version to which the shards were added."""
    _, output, predictions = made
    spec = ColdSpec(
        target=Target(output, tmp_path.name, tmp_path / "scratch", pixels=False),
        parent="round-0",
        predictions=predictions,
        **{"round": 0, "rules": (), "seed": 0, **values},
    )
    markers = [add_shard(spec, shard) for shard in OK]
    rows = pa.concat_tables([rows for _, _, rows in read_tables(output, tmp_path.name)])
    is_new = pc.equal(rows["source"].cast(pa.string()), "cold")
    return markers, rows.filter(is_new), rows.filter(pc.invert(is_new))


def test_images_without_an_answer_get_no_row_and_shards_without_images_none(made, tmp_path):
    markers, new, _ = added(made, tmp_path)
    told = list(OK.values())
    told[2] = ["i", "k"]
    names = [key.partition("-")[0] for key in new["image_key"].to_pylist()]
    assert names == [name for keys in told for name in keys]
    assert [marker["annotations"].get("cold/region/category/kept", 0) for marker in markers] == [
        len(keys) for keys in told
    ]


def test_the_rules_judge_new_rows_alone(made, tmp_path):
    markers, new, old = added(made, tmp_path, rules=(RuleEntry(NotKept()),))
    verdicts = new.select(["status", "rule", "measured", "limit"]).to_pylist()
    assert {tuple(row.values()) for row in verdicts} == {("rejected", "not_kept", 0.25, 0.5)}
    assert sum(marker["rules"]["not_kept"][0] for marker in markers) == new.num_rows
    before = pa.concat_tables([rows for _, _, rows in read_tables(made[1], "round-0")])
    assert old.to_pylist() == before.to_pylist()


def test_new_rows_bear_the_round_they_come_after_and_the_ids_of_their_predictions(made, tmp_path):
    _, new, old = added(made, tmp_path, round=3)
    assert (set(new["round"].to_pylist()), set(old["round"].to_pylist())) == ({3}, {0})
    said = pa.concat_tables([rows for _, _, rows in read_tables(made[2], "round-0")])
    told = said.filter(pc.equal(said["source"].cast(pa.string()), "cold"))
    failed = pc.starts_with(told["image_key"], "j-")
    assert new["annotation_id"].equals(told.filter(pc.invert(failed))["annotation_id"])


@pytest.mark.parametrize(
    ("levels", "number"),
    [
        ([], 0),
        ([["yolo"], ["composer"]], 0),
        ([["yolo"], ["florence2@1"], ["florence2@12"], ["cold_ocr"]], 12),
    ],
)
def test_a_version_knows_its_last_round(levels, number):
    assert round_of(Version(levels=levels)) == number
