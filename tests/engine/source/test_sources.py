"""Opening sources by kind and uri, and the synthetic one."""

import pickle

import pyarrow as pa
import pytest

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.source import SOURCES, find_source, open_source
from engine.source.images import Images
from engine.source.plan import make_plan
from engine.source.shapes import ReadError
from engine.source.shard import read_shard
from engine.source.synthetic import Synthetic


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({}, r"source.uri is missing; give a folder", id="no-uri"),
        pytest.param(
            {"kind": "cocoa", "uri": "a"},
            r"source.kind 'cocoa' is not known; known: dataset, images",
            id="kind",
        ),
        pytest.param(
            {"uri": "a", "regoin": "x"},
            r"source.regoin is no option of this source; known: uri, licence, .*'region'\?",
            id="option",
        ),
        pytest.param(
            {"uri": "a", "num_images": 3}, r"num_images is no option", id="option-of-another-kind"
        ),
        pytest.param(
            {"uri": "labels/instances.json"}, r"looks like a labels file, which no", id="labels"
        ),
        pytest.param({"uri": "s3://b/000.zip"}, r"looks like an archive, which no", id="archive"),
        pytest.param({"uri": "synthetic", "num_images": 0}, r"from 1 to 99999999", id="no-scenes"),
        pytest.param({"kind": "synthetic", "uri": "a"}, r"is written 'synthetic'", id="synthetic"),
    ],
)
def test_open_source_refuses(options, message):
    with pytest.raises(ConfigError, match=message):
        open_source(**options)


def test_auto_decides_by_the_uri(tmp_path):
    assert open_source(uri=str(tmp_path)) == Images(uri=str(tmp_path))
    assert open_source(uri="synthetic", num_images=7) == Synthetic(num_images=7)
    assert open_source("synthetic") == Synthetic()


def test_every_source_in_the_table_resolves():
    for kind in SOURCES.table:
        assert callable(find_source(kind, "").listing)


def test_synthetic_lists_names_in_order_and_no_sizes():
    source = Synthetic(num_images=12)
    images = source.listing().images
    assert images["uri"].to_pylist() == sorted(images["uri"].to_pylist())
    assert images["size_bytes"].null_count == 12
    assert source.listing(5).images.equals(images.slice(0, 5))
    with pytest.raises(ConfigError, match="limit is 0"):
        source.listing(0)


def test_synthetic_reads_the_same_images_each_time():
    pytest.importorskip("engine.synthetic", reason="the scene generator is not there")
    source = pickle.loads(pickle.dumps(Synthetic(num_images=3, seed=4)))
    plan = make_plan(source.listing(), 3)
    first, second = (read_shard(source, plan.rows, plan.modified) for _ in range(2))
    assert first.images["status"].to_pylist() == ["ok"] * 3
    assert first.images.equals(second.images)
    other = read_shard(Synthetic(num_images=3, seed=5), plan.rows)
    assert not set(other.images["sha256"].to_pylist()) & set(first.images["sha256"].to_pylist())


def test_synthetic_has_no_scene_beyond_the_last():
    for uri in ("scene-00000003.jpg", "photo.jpg"):
        images = pa.table({"uri": [uri]})
        [refused] = Synthetic(num_images=3).read(images, LimitsConfig())
        assert isinstance(refused, ReadError)
        assert (refused.cause, str(refused)) == ("missing", f"there is no scene {uri!r}")
