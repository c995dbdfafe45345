"""Several sources in one run: names, shares of a limit, and which source an image is from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import parse_config
from engine.errors import ConfigError
from engine.source.images import Images
from engine.source.mixture import Mixture, Part, share_out
from engine.source.plan import make_plan
from engine.source.shard import read_shard
from engine.source.synthetic import Synthetic
from engine.source.tars import Tars
from engine.stages import source_of
from tests import tiny
from tests.archives import write_tar


@pytest.fixture
def mixture(tmp_path):
    folder = tiny.write_photos(tmp_path / "photos")
    write_tar(tmp_path / "x.tar", {"a.png": tiny.PNG + b"1", "a.txt": b"a dot"})
    return Mixture(
        [
            Part("mine", Images(uri=str(folder), licence="CC0"), 3.0),
            Part("web", Tars(uri=str(tmp_path / "x.tar"), name="web")),
        ]
    )


def test_images_say_by_their_uri_where_they_are_from(mixture):
    plan = make_plan(mixture.listing(), 10)
    assert plan.rows["uri"].to_pylist() == [
        *[f"mine/{name}" for name in ("a.png", "b.bmp", "c.gif", "d.jpg", "e.png")],
        "web/x.tar/a.png",
    ]
    assert len(set(plan.rows["image_key"].to_pylist())) == 6
    loaded = read_shard(mixture, plan.rows, plan.modified)
    assert loaded.images["status"].to_pylist() == ["ok", "ok", "ok", "failed", "duplicate", "ok"]
    assert loaded.images["licence"].to_pylist() == ["CC0"] * 5 + [None]
    [given] = loaded.given
    assert (given.source, given.image_key) == ("web", plan.rows["image_key"][5].as_py())


def test_any_part_of_the_plan_reads_alone(mixture):
    plan = make_plan(mixture.listing(), 10)
    whole = read_shard(mixture, plan.rows, plan.modified).images
    for i in (0, 4, 5):
        one = read_shard(mixture, plan.rows.slice(i, 1), plan.modified.slice(i, 1)).images
        assert one["sha256"].to_pylist() == whole["sha256"].to_pylist()[i : i + 1]


def test_what_is_ignored_is_told_by_source(mixture, tmp_path):
    (tmp_path / "photos" / "notes.md").write_text("hello")
    assert mixture.listing().ignored == {"mine: extension .md": 1}


def test_a_limit_is_shared_out_by_weight(mixture):
    assert mixture.listing(4).images["uri"].to_pylist()[2:] == ["mine/c.gif", "web/x.tar/a.png"]
    assert mixture.listing(100).images.num_rows == 6
    with pytest.raises(ConfigError, match="limit is 0"):
        mixture.listing(0)


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 50)), min_size=1, max_size=6),
    st.integers(1, 200),
)
def test_shares_add_up_and_nobody_gives_more_than_there_is(parts, limit):
    weights, counts = zip(*parts, strict=True)
    shares = share_out(limit, weights, counts)
    assert sum(shares) == min(limit, sum(counts))
    assert all(0 <= share <= count for share, count in zip(shares, counts, strict=True))


def test_shares_follow_the_weights_where_there_is_enough():
    assert share_out(100, [3, 1], [1000, 1000]) == [75, 25]
    assert share_out(100, [3, 1], [10, 1000]) == [10, 90]
    assert share_out(1, [1, 1], [5, 5]) == [1, 0]


def test_what_all_parts_produce_is_known(mixture):
    assert set(mixture.produces) == {"web"}
    assert Mixture([Part("a", Synthetic(num_images=1))]).produces == {}


def config(source):
    return parse_config({"source": source, "output": {"uri": "out"}}, (), "test")


def test_a_config_of_several_sources_opens_each_with_its_own_options(tmp_path):
    folder = str(tmp_path)
    source = source_of(
        config(
            {
                "sources": [
                    {"name": "a", "uri": folder, "licence": "CC0"},
                    {"name": "b", "uri": f"{folder}/{{0..1}}.tar", "texts": {"story": "detailed"}},
                ]
            }
        )
    )
    assert [part.name for part in source.parts] == ["a", "b"]
    assert source.parts[0].source == Images(uri=folder, licence="CC0")
    assert source.produces == {"b": ("text/detailed", "text/alt", "region", "grounding")}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"sources": []}, "source has no uri; give a folder"),
        ({"uri": "a", "sources": [{"name": "b", "uri": "b"}]}, "both sources and uri"),
        ({"kind": "images", "sources": [{"name": "b", "uri": "b"}]}, "both sources and kind"),
        ({"sources": [{"uri": "b"}]}, r"source.sources\[0\].name is missing"),
        ({"sources": [{"name": "a b", "uri": "b"}]}, r"sources\[0\].name: String should match"),
        ({"sources": [{"name": "a", "uri": "b", "weight": 0}]}, "greater than 0; found 0"),
        (
            {"sources": [{"name": "a", "uri": "b"}, {"name": "a", "uri": "c"}]},
            "two sources of one name among a, a",
        ),
        ({"sources": [{"name": "a", "uri": "s3://k:s@b/c"}]}, "holds a key or password"),
    ],
)
def test_a_wrong_list_of_sources_is_refused(source, message):
    with pytest.raises(ConfigError, match=message):
        config(source)


def test_a_resolved_config_of_several_sources_is_read_again():
    """`fld config show` and config.yaml spell every default out."""
    first = config({"sources": [{"name": "a", "uri": "b"}]})
    again = parse_config(first.model_dump(mode="json"), (), "test")
    assert again == first


def test_a_mistake_in_one_of_several_sources_names_it():
    with pytest.raises(ConfigError, match=r"source 'b': source\.num_images is no option"):
        source_of(config({"sources": [{"name": "b", "uri": "photos", "num_images": 3}]}))
