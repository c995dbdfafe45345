"""Pictures of a dataset on disk. What is drawn is tested with engine.draw."""

import pytest
from PIL import Image

from engine.compose import compose
from engine.config import RunnerConfig, parse_config
from engine.errors import ConfigError
from engine.filtering import Filtering, filter_dataset
from engine.job import VERSION, Observer
from engine.pictures import draw_change, draw_one, draw_sheet, print_one
from engine.run import annotate
from engine.source.filesystem import open_location


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    out = tmp_path_factory.mktemp("pictures") / "out"
    raw = {
        "source": {"uri": "synthetic", "num_images": 5, "shard_size": 2},
        "output": {"uri": str(out)},
        "specialists": [{"kind": "null"}],
        "rules": [{"rule": "min_score", "limits": {"*": 0.5}}],
        "runner": {"kind": "serial"},
    }
    annotate(compose(parse_config(raw, (), "test")), Observer())
    return open_location(str(out))


def test_draw_sheet_takes_images_from_several_shards(place, tmp_path):
    draw_sheet(place, VERSION, tmp_path / "few.png", num_images=1)
    draw_sheet(place, VERSION, tmp_path / "all.png", num_images=5)
    with Image.open(tmp_path / "few.png") as few, Image.open(tmp_path / "all.png") as everything:
        assert everything.size[1] > few.size[1]


def test_draw_one_without_rejected_rows_is_another_picture(place, tmp_path):
    for name, rejected in (("all.png", True), ("kept.png", False)):
        draw_one(place, VERSION, "scene-00000000.jpg", tmp_path / name, rejected=rejected)
    assert (tmp_path / "all.png").read_bytes() != (tmp_path / "kept.png").read_bytes()


def test_pictures_refuse_an_image_that_is_not_there(place, tmp_path):
    with pytest.raises(ConfigError, match=r"no image has the key or uri 'scene-9.jpg'"):
        draw_one(place, VERSION, "scene-9.jpg", tmp_path / "x.png")
    with pytest.raises(ConfigError, match="no image has the key"):
        print_one(place, VERSION, "nothing")


def test_pictures_refuse_a_place_that_cannot_be_written(place, tmp_path):
    with pytest.raises(ConfigError, match=r"x.png: cannot be written"):
        draw_sheet(place, VERSION, tmp_path / "no" / "x.png", num_images=1)


@pytest.fixture(scope="module")
def stricter(place):
    """A second version of the dataset, of which no row is kept."""
    rules = compose(
        parse_config(
            {
                "source": {"uri": place.uri},
                "rules": [{"rule": "min_score", "limits": {"*": 1.0}, "alarm_share": 1.0}],
            },
            (),
            "test",
        )
    )
    job = Filtering(
        output=place,
        rules=rules.rules,
        options=rules.config.rules,
        runner=RunnerConfig(kind="serial"),
    )
    return filter_dataset(job).name


def test_a_change_is_drawn_twice_for_each_image_it_touched(place, stricter, tmp_path):
    draw_change(place, VERSION, stricter, tmp_path / "one.png", num_images=1)
    draw_change(place, VERSION, stricter, tmp_path / "two.png", num_images=2)
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert one.size[0] > one.size[1]  # before and after, side by side
        assert two.size[0] > one.size[0]


def test_a_change_of_nothing_is_refused(place, tmp_path):
    with pytest.raises(ConfigError, match="no kept row differs between round-0 and round-0"):
        draw_change(place, VERSION, VERSION, tmp_path / "x.png", num_images=1)
