"""Listing loose images: what is a candidate, what is ignored and why, in which order."""

import os
import pickle

import pyarrow as pa
import pytest

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.source.images import Images
from tests.hostile import encoded, photo

PNG = encoded(photo(8, 8), "PNG")


def uris(source: Images, limit: int | None = None) -> list[str]:
    return source.listing(limit).images["uri"].to_pylist()


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "c.TIFF", "sub/d.webp", "sub/deeper/e.gif", "bare"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    return tmp_path


def test_an_empty_folder_lists_nothing(tmp_path):
    listing = Images(uri=str(tmp_path)).listing()
    assert listing.images.num_rows == 0
    assert listing.ignored == {}


def test_listing_takes_known_extensions_and_images_without_one(folder):
    assert uris(Images(uri=str(folder))) == [
        "a.PNG",
        "b.jpg",
        "bare",
        "c.TIFF",
        "sub/d.webp",
        "sub/deeper/e.gif",
    ]


def test_listing_states_size_and_time(folder):
    os.utime(folder / "b.jpg", ns=(0, 1_600_000_000_123_456_789))
    row = Images(uri=str(folder)).listing().images.to_pylist()[1]
    assert (row["size_bytes"], row["modified"]) == (len(PNG), 1_600_000_000_123_456_789)


def test_listing_counts_what_it_ignores_by_reason(folder):
    for name in ("a.txt", "b.txt", "c.heic", "d.averylongending", ".e.jpg", ".git/f.jpg", "README"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"words")
    assert Images(uri=str(folder)).listing().ignored == {
        "extension .heic": 1,
        "extension .txt": 2,
        "hidden file": 1,
        "hidden folder": 1,
        "no extension, no image inside": 1,
        "other extensions": 1,
    }


def test_links_are_listed_once_and_never_lead_out(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "x.jpg").write_bytes(PNG)
    (folder / "to-file.jpg").symlink_to("b.jpg")
    (folder / "to-folder").symlink_to("sub")
    (folder / "sub" / "up").symlink_to("..")
    (folder / "out.jpg").symlink_to(outside / "x.jpg")
    (folder / "out").symlink_to(outside)
    listing = Images(uri=str(folder)).listing()
    listed = listing.images["uri"].to_pylist()
    assert [uri for uri in listed if "out" in uri or "up" in uri or "to-" in uri] == ["to-file.jpg"]
    assert listing.ignored == {"link out of the folder": 2, "link to a folder": 2}


def test_a_folder_reached_by_a_link_is_its_own_inside(folder, tmp_path_factory):
    link = tmp_path_factory.mktemp("links") / "photos"
    link.symlink_to(folder)
    (folder / "to-file.jpg").symlink_to(folder / "b.jpg")
    assert "to-file.jpg" in uris(Images(uri=str(link)))


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_a_limit_takes_the_first_by_uri(folder, limit):
    source = Images(uri=str(folder))
    assert uris(source, limit) == uris(source)[:limit]


def test_a_limit_below_one_is_refused(folder):
    with pytest.raises(ConfigError, match="limit is 0; give 1 or more"):
        Images(uri=str(folder)).listing(0)


def test_listing_is_the_same_whatever_the_batches(folder, monkeypatch):
    source = Images(uri=str(folder))
    whole = source.listing()
    monkeypatch.setattr("engine.source.images._BATCH", 2)
    batched = source.listing()
    assert batched.images.equals(whole.images)
    assert uris(source, 3) == uris(source)[:3]


def test_a_source_pickles(folder):
    copy = pickle.loads(pickle.dumps(Images(uri=str(folder))))
    [sample] = copy.read(pa.table({"uri": ["b.jpg"]}), LimitsConfig())
    assert (sample.data.to_pybytes(), sample.rows, sample.source) == (PNG, (), None)
