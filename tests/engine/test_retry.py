"""A committed shard taken up again: what failed is read anew, what was fine stays as it was.

That `--retry-failed` asks the specialists again is tested with whole runs.
"""

import shutil

import pytest

from engine.config import LimitsConfig
from engine.retry import as_they_are, read_again
from engine.source.images import Images
from engine.source.plan import make_plan
from engine.source.shard import read_shard
from tests import tiny
from tests.builders import rows
from tests.shards import commit, target

LIMITS = LimitsConfig(max_pixels=10_000, max_bytes=10_000)
BROKEN = 3  # the place of d.jpg


@pytest.fixture
def shard(tmp_path):
    """Photos with a broken one, and the shard that was committed from them."""
    folder = tiny.write_photos(tmp_path / "photos")
    source = Images(uri=str(folder))
    plan, modified = make_plan(source.listing(), shard_size=9)
    loaded = read_shard(source, plan, modified, LIMITS)
    assert loaded.images["status"].to_pylist() == ["ok", "ok", "ok", "failed", "duplicate"]
    keys = loaded.images["image_key"].to_pylist()
    place = target(tmp_path)
    commit(place, 0, loaded.images, rows(image_key=[keys[0], keys[1]], text=["x", "no"]))
    return source, plan, place, folder


def again(shard):
    source, plan, place, _ = shard
    return read_again(source, as_they_are(plan), place, 0, LIMITS)


def test_a_shard_without_failures_has_nothing_to_ask(tmp_path, shard):
    _, _, place, folder = shard
    (folder / "d.jpg").write_bytes(tiny.BMP + b"\0")
    (images, *_), *_ = again(shard)
    commit(place, 0, images)
    assert again(shard)[1] == []


def test_a_file_that_is_still_broken_fails_again(shard):
    (images, data, _), positions, carried = again(shard)
    assert positions == [BROKEN]
    assert images["status"].to_pylist() == ["ok", "ok", "ok", "failed", "duplicate"]
    assert data[BROKEN] is None
    assert carried["text"].to_pylist() == ["x", "no"]


def test_a_mended_file_is_ok_and_the_others_are_untouched(shard):
    before = again(shard)[0].images
    mended = tiny.BMP + b"\0"  # another file than b.bmp
    (shard[3] / "d.jpg").write_bytes(mended)
    (images, data, _), positions, _ = again(shard)
    assert positions == [BROKEN]
    assert images["status"][BROKEN].as_py() == "ok"
    assert bytes(data[BROKEN]) == mended
    others = [0, 1, 2, 4]
    assert images.take(others).equals(before.take(others))
    # the committed tar holds the bytes of the others; those of a duplicate are nowhere
    assert data[0] == f"pixels of {images['image_key'][0].as_py()}".encode()
    assert data[4] is None


def test_a_mended_file_may_be_a_duplicate_of_an_older_one(shard):
    (shard[3] / "d.jpg").write_bytes(tiny.GIF)
    (images, *_), *_ = again(shard)
    assert images["status"][BROKEN].as_py() == "duplicate"
    assert images["duplicate_of"][BROKEN].as_py() == images["image_key"][2].as_py()


def test_an_image_whose_specialist_failed_is_asked_again(shard):
    """It was read and decoded; only a specialist has no answer yet."""
    source, plan, place, _ = shard
    failed = [{"stage": "annotate", "source": "yolo", "cause": "raised", "message": ""}]
    loaded = read_shard(source, plan, None, LIMITS).images
    index = loaded.schema.get_field_index("failures")
    lists = [failed, *loaded["failures"].to_pylist()[1:]]
    table = loaded.set_column(index, loaded.schema.field("failures"), [lists])
    keys = table["image_key"].to_pylist()
    commit(place, 0, table, rows(image_key=keys[:2], text=["partly", "y"]))
    (images, data, _), positions, carried = again(shard)
    assert positions == [0, BROKEN]
    assert carried["text"].to_pylist() == ["y"]
    assert bytes(data[0]) == tiny.PNG
    assert not images["failures"][0].as_py()


def test_a_photo_that_is_gone_says_so(shard):
    shutil.rmtree(shard[3])
    (images, *_), *_ = again(shard)
    assert images["failures"][BROKEN].as_py()[0]["cause"] == "missing"
