"""Judging the claims of a finished dataset again, with the same rules, changes nothing."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.compose import compose
from engine.config import parse_config
from engine.job import VERSION, Observer
from engine.judge import judge
from engine.merge import merge
from engine.reading import read_tables
from engine.run import annotate
from engine.schema import ANNOTATIONS, CLAIM, canonical
from engine.shard import level_order
from engine.source.filesystem import open_location


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    out = tmp_path_factory.mktemp("rejudge") / "out"
    noisy = {"kind": "null", "num_rows": 12}
    raw = {
        "source": {"uri": "synthetic", "num_images": 24, "shard_size": 8},
        "output": {"uri": str(out)},
        "specialists": [
            {**noisy, "name": "a"},
            {**noisy, "name": "b"},
            {"kind": "null", "name": "late", "num_rows": 6, "after": ["region"]},
            {"kind": "composer"},
        ],
        "rules": [
            {"rule": "min_score", "limits": {"a": 0.3, "b/dog": 0.9}},
            {"rule": "duplicate_region", "iou": 0.1},
            {"rule": "min_area", "min_area_px": 4000},
            {"rule": "phrase_blacklist", "phrases": ["kite"]},
        ],
        "runner": {"kind": "serial", "batch_size": 3},
    }
    made = compose(parse_config(raw, (), "test"))
    annotate(made, Observer())
    return made


def test_judging_again_changes_no_verdict(job):
    levels = level_order(job.specialists)
    assert levels == [["a", "b"], ["late"], ["composer"]]
    rules = set()
    for _, images, stored in read_tables(open_location(job.config.output.uri), VERSION):
        state = ANNOTATIONS.empty_table()
        for sources in levels:
            mine = pc.is_in(stored["source"].cast(pa.string()), pa.array(sources))
            fresh = canonical(stored.filter(mine).select(CLAIM.names), CLAIM)
            state, _ = judge(images, state, fresh, job.rules, seed=job.config.seed)
        again = merge([state], images["image_key"].to_pylist(), ANNOTATIONS)
        assert again.equals(canonical(stored, ANNOTATIONS))
        rules |= set(stored["rule"].to_pylist())
    # every rule had something to say, or the comparison would prove little
    assert rules >= {"min_score", "duplicate_region", "min_area", "phrase_blacklist", None}
