"""Labels in WebDataset shards: read without their pictures, thinned out in place."""

import io
import json
import tarfile

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import foreign, place_of, read, small_limits, write

from engine.errors import LabelsError
from engine.formats.webdataset import WebDatasetTar
from tests.archives import tar_bytes, write_tar

KIND = WebDatasetTar()
PHOTO = b"\xff\xd8\xff no real photo"
VIEW = {
    "image": {"image_key": "a", "width": 640, "height": 480},
    "texts": [{"annotation_id": "t1", "role": "brief", "text": "a dog"}],
    "regions": [
        {
            "region_id": "r1",
            "box": [1.5, 2.0, 30.1, 40.0],
            "score": 0.5,
            "texts": [
                {"annotation_id": "r1", "role": "category", "text": "dog"},
                {"annotation_id": "r2", "role": "brief", "text": "a big dog"},
            ],
        }
    ],
    "grounding": [
        {
            "text_id": "t1",
            "span": [0, 5],
            "box": [1, 2, 3, 4],
            "annotation_id": "g1",
            "role": "phrase",
            "text": "a dog",
        }
    ],
}


def dumped(value):
    return json.dumps(value, separators=(",", ":")).encode()


def content(path):
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isreg()}


def rewritten(folder, told, keep=lambda _: True, name="out.tar"):
    write(KIND, folder / name, told, keep)
    return folder / name


def test_an_empty_tar_has_no_images_and_comes_back(tmp_path):
    path = write_tar(tmp_path / "a.tar", {})
    told = read(KIND, path)
    assert told.images == []
    assert rewritten(tmp_path, told).read_bytes() == path.read_bytes()


def test_texts_and_classes_are_read_and_pictures_are_not(tmp_path):
    members = {
        "x/1.jpg": PHOTO,
        "x/1.txt": b"a dog\n",
        "x/1.json": dumped({"caption": "a cat", "width": 64, "height": 48, "license": "CC0"}),
        "2.png": b"",
        "2.cls": b"1",
    }
    path = write_tar(tmp_path / "a.tar", members)
    assert KIND.recognises(place_of(path), path.read_bytes())
    told = read(KIND, path, classes=("zero", "one"))
    assert sorted((row["uri"], row["text"]) for row in told.rows) == [
        ("a.tar/2.png", "one"),
        ("a.tar/x/1.jpg", "a cat"),
        ("a.tar/x/1.jpg", "a dog"),
    ]
    image = told.images[1]
    assert (image["width"], image["height"], image["licence"]) == (64, 48, "CC0")
    assert rewritten(tmp_path, told).read_bytes() == path.read_bytes()


# webdataset leaves its tars open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_rejected_texts_leave_and_every_other_byte_stays(tmp_path):
    spelt = b'{"id": 1.10, "caption": "bad",  "more": {"b":[1, 2.50]}, "alt": ["good", "bad"]}'
    members = [
        ("1.jpg", PHOTO),
        ("1.txt", b"bad"),
        ("1.json", spelt),
        ("1.pyd", b"\x80\x04"),
        ("2.jpg", PHOTO),
        ("2.txt", b"good"),
        ("2.cls", b"bad"),
        ("long" * 40 + ".jpg", PHOTO),
        ("long" * 40 + ".txt", b"good"),
    ]
    path = write_tar(tmp_path / "a.tar", members)
    told = read(KIND, path)
    out = rewritten(tmp_path, told, lambda row: row["text"] != "bad")
    left = content(out)
    assert list(left) == [name for name, _ in members if name not in ("1.txt", "2.cls")]
    assert left.pop("1.json") == b'{"id": 1.10, "more": {"b":[1, 2.50]}, "alt": ["good"]}'
    assert left == {name: dict(members)[name] for name in left}
    samples = list(webdataset.WebDataset(str(out), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["1", "2", "long" * 40]


def test_our_own_views_give_all_rows_and_lose_those_rejected(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.jpg": PHOTO, "a.json": dumped(VIEW)})
    told = read(KIND, path)
    assert [(row["kind"], row["text"]) for row in told.rows] == [
        ("text", "a dog"),
        ("region", "dog"),
        ("region", "a big dog"),
        ("grounding", "a dog"),
    ]
    assert told.images[0]["width"] == 640
    assert rewritten(tmp_path, told).read_bytes() == path.read_bytes()
    out = rewritten(tmp_path, told, lambda row: row["source_id"] not in ("r1", "g1"))
    region = {**VIEW["regions"][0], "texts": VIEW["regions"][0]["texts"][1:]}
    assert content(out)["a.json"] == dumped({**VIEW, "regions": [region], "grounding": []})
    out = rewritten(tmp_path, told, lambda row: row["kind"] == "text")
    assert json.loads(content(out)["a.json"])["regions"] == []


def test_labels_without_pictures_are_read_too(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.json": dumped(VIEW), "b.txt": b"words"})
    told = read(KIND, path)
    assert [image["uri"] for image in told.images] == ["a.tar/a.json", "a.tar/b.txt"]
    out = rewritten(tmp_path, told, lambda row: row["text"] != "words")
    assert list(content(out)) == ["a.json"]


@pytest.mark.parametrize("ending", ["tar.gz", "tgz"])
def test_compressed_shards_stay_compressed(tmp_path, ending):
    path = write_tar(tmp_path / f"a.{ending}", {"1.jpg": PHOTO, "1.txt": b"x", "1.cls": b"y"})
    told = read(KIND, path)
    out = rewritten(tmp_path, told, lambda row: row["text"] != "x", f"out.{ending}")
    assert out.read_bytes().startswith(b"\x1f\x8b")
    assert content(out) == {"1.jpg": PHOTO, "1.cls": b"y"}


def test_a_folder_of_shards_is_read_and_written_shard_by_shard(tmp_path):
    folder = tmp_path / "in"
    for n in range(3):
        members = {f"{n}.jpg": PHOTO, f"{n}.txt": f"text {n}".encode()} if n != 1 else {}
        write_tar(folder / f"{n}.tar", members)
    (folder / "README.md").write_text("no shard")
    assert KIND.recognises(place_of(folder), b"")
    told = read(KIND, folder, part_size=1)
    assert [row["text"] for row in told.rows] == ["text 0", "text 2"]
    out = tmp_path / "out"
    out.mkdir()
    from engine.formats.shapes import LabelSet

    KIND.write(place_of(out), LabelSet(told.header, iter(told.parts)))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in folder.glob("*.tar")
    }


def test_crafted_members_are_told_and_nothing_escapes(tmp_path):
    members = [
        ("../../evil.jpg", PHOTO),
        ("/etc/evil.txt", b"x"),
        ("link.jpg", "/etc/passwd"),
        ("good.jpg", PHOTO),
        ("good.txt", b"fine"),
    ]
    path = write_tar(tmp_path / "in" / "a.tar", members)
    told = read(KIND, path)
    assert [(image["status"], image["uri"]) for image in told.images] == [
        ("failed", "a.tar/../../evil.jpg"),
        ("ok", "a.tar/good.jpg"),
        ("failed", "a.tar/link.jpg"),
    ]
    assert {cause for _, cause, _ in told.failures} == {"unsafe_path", "special_file"}
    out = tmp_path / "deep" / "deeper"
    out.mkdir(parents=True)
    rewritten(out, told)
    found = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["a.tar", "out.tar"]
    assert (out / "out.tar").read_bytes() == path.read_bytes()


def test_a_cut_archive_is_told_and_what_there_is_comes_back(tmp_path):
    members = {"1.jpg": PHOTO, "1.txt": b"one", "2.jpg": b"x" * 5000, "2.txt": b"two"}
    path = write_tar(tmp_path / "a.tar", members, cut=4000)
    told = read(KIND, path)
    assert [row["text"] for row in told.rows] == ["one"]
    assert ("a.tar", "broken_archive") in [failure[:2] for failure in told.failures]
    assert rewritten(tmp_path, told).read_bytes() == path.read_bytes()


def test_labels_that_cannot_be_taken_are_failures_and_stay(tmp_path):
    members = {
        "1.jpg": PHOTO,
        "1.json": b"{",
        "1.txt": b"\xff",
        "2.jpg": PHOTO,
        "2.txt": b"x" * 2000,
        "3.jpg": PHOTO,
        "3.json": b"[" * 50_000,
    }
    path = write_tar(tmp_path / "a.tar", members)
    told = read(KIND, path, limits=small_limits(60_000))
    assert sorted(failure[1] for failure in told.failures) == ["not_json"] * 3
    assert rewritten(tmp_path, told, lambda _: False).stat().st_size
    assert content(tmp_path / "out.tar") == {k: v for k, v in members.items() if k != "2.txt"}
    told = read(KIND, path, limits=small_limits(1000))
    assert "too_many_labels" in [failure[1] for failure in told.failures]


@pytest.mark.parametrize(
    "change",
    [
        {"box": [1, 2, 3]},
        {"box": "wide"},
        {"box": [1, 2, 3, 10**400]},
        {"score": float("nan")},
        {"score": "high"},
        {"polygon": [[1, 2, 3]]},
        {"polygon": [[1, float("inf")]]},
        {"texts": [{"annotation_id": "r1", "role": "hero", "text": "dog"}]},
        {"texts": [{"annotation_id": "r1", "role": "category", "text": "\ud800"}]},
        {"texts": [{"annotation_id": 5, "role": "category", "text": "dog"}]},
    ],
)
def test_views_that_no_table_can_hold_are_failures_and_stay(tmp_path, change):
    view = {
        **VIEW,
        "regions": [
            {
                "region_id": "r1",
                "box": [1, 2, 3, 4],
                "texts": VIEW["regions"][0]["texts"][:1],
                **change,
            }
        ],
    }
    path = write_tar(tmp_path / "a.tar", {"a.jpg": PHOTO, "a.json": dumped(view)})
    told = read(KIND, path)
    assert [row["kind"] for row in told.rows] == ["text", "grounding"]
    assert [failure[1] for failure in told.failures] == ["bad_labels"]
    assert rewritten(tmp_path, told).read_bytes() == path.read_bytes()
    out = rewritten(tmp_path, told, lambda _: False)
    left = json.loads(content(out)["a.json"])
    assert repr(left["regions"]) == repr(json.loads(dumped(view))["regions"])


def test_half_a_character_in_json_is_a_failure_and_stays(tmp_path):
    members = {"a.jpg": PHOTO, "a.json": b'{"caption": "\\ud800", "title": "fine"}'}
    path = write_tar(tmp_path / "a.tar", members)
    told = read(KIND, path)
    assert [row["text"] for row in told.rows] == ["fine"]
    assert [failure[1] for failure in told.failures] == ["bad_labels"]
    assert content(rewritten(tmp_path, told)) == members
    left = content(rewritten(tmp_path, told, lambda _: False))["a.json"]
    assert left == b'{"caption": "\\ud800"}'


def test_json_that_only_python_reads_is_thinned_out_too(tmp_path):
    spelt = '{"caption": "bad", "title": "caf\u00e9", "score": NaN}'.encode()
    path = write_tar(tmp_path / "a.tar", {"a.jpg": PHOTO, "a.json": spelt})
    out = rewritten(tmp_path, read(KIND, path), lambda row: row["text"] != "bad")
    assert content(out)["a.json"] == '{"title": "caf\u00e9", "score": NaN}'.encode()


def test_a_sample_whose_image_is_not_given_any_more_goes_whole(tmp_path):
    path = write_tar(
        tmp_path / "a.tar", {"1.jpg": PHOTO, "1.txt": b"x", "2.jpg": PHOTO, "index": b"y"}
    )
    told = read(KIND, path, part_size=1)
    out = rewritten(tmp_path, told._replace(parts=told.parts[1:]))
    assert content(out) == {"2.jpg": PHOTO, "index": b"y"}


def test_a_shard_is_never_written_over_itself_and_others_cannot_be(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"1.jpg": PHOTO, "1.txt": b"x"})
    told = read(KIND, path)
    with pytest.raises(LabelsError, match="is the shard itself"):
        write(KIND, path, told)
    with pytest.raises(LabelsError, match="hold the pictures"):
        write(KIND, tmp_path / "out.tar", foreign([{"uri": "a.jpg"}], []))
    with pytest.raises(LabelsError, match=r"holds no file that ends in \.tar"):
        read(KIND, tmp_path / "nothing") if (tmp_path / "nothing").mkdir() is None else None


def test_members_with_headers_of_their_own_come_back(tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in [
            ("caf\u00e9.jpg", PHOTO),
            ("caf\u00e9.txt", b"x"),
            ("caf\u00e9.json", b'{"caption": "x", "n": 1}'),
        ]:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.pax_headers = len(data), 1.25, {"comment": "\u00e9"}
            tar.addfile(info, io.BytesIO(data))
    path = tmp_path / "a.tar"
    path.write_bytes(stream.getvalue())
    told = read(KIND, path)
    assert rewritten(tmp_path, told).read_bytes() == path.read_bytes()
    out = rewritten(tmp_path, told, lambda _: False)
    with tarfile.open(out) as tar:
        left = {member.name: member.pax_headers["comment"] for member in tar}
    assert left == {"caf\u00e9.jpg": "\u00e9", "caf\u00e9.json": "\u00e9"}
    assert content(out)["caf\u00e9.json"] == b'{"n": 1}'


NAMES = st.sampled_from(["a", "b/a", "c.d"])
FIELDS = st.sampled_from(["jpg", "txt", "json", "cls", "seg.png", "npy"])
VALUES = st.one_of(
    st.binary(max_size=20),
    st.just(b"word"),
    st.dictionaries(
        st.sampled_from(["caption", "title", "id", "license", "label"]),
        st.none()
        | st.text(st.characters(codec="utf-8"), max_size=5)
        | st.integers()
        | st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=3),
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=40, deadline=None)
@given(
    members=st.lists(st.tuples(NAMES, FIELDS, VALUES), max_size=8),
    dropped=st.sets(st.integers(0, 10)),
)
def test_any_shard_comes_back_and_holds_what_was_kept(tmp_path_factory, members, dropped):
    folder = tmp_path_factory.mktemp("any")
    path = folder / "a.tar"
    path.write_bytes(tar_bytes([(f"{name}.{field}", value) for name, field, value in members]))
    told = read(KIND, path)
    assert rewritten(folder, told).read_bytes() == path.read_bytes()
    gone = {(row["uri"], row["text"]) for n, row in enumerate(told.rows) if n in dropped}
    keys = {image["image_key"]: image["uri"] for image in told.images}
    rewritten(folder, told, lambda row: (keys[row["image_key"]], row["text"]) not in gone)
    left = {(row["uri"], row["text"]) for row in read(KIND, folder / "out.tar").rows}
    shown = {(row["uri"], row["text"]) for row in told.rows} - gone
    assert {text for _, text in left} == {text for _, text in shown}


@pytest.mark.parametrize("name", ["compressed.tar", "mpdata.tar", "sample.tgz"])
def test_published_shards_come_back(data, tmp_path, name):
    path = data / "webdataset-shards" / name
    told = read(KIND, path)
    out = rewritten(tmp_path, told, name=name)
    assert content(out) == content(path)
    if name == "sample.tgz":
        assert len(told.images) == len(told.rows) == 90
        rewritten(tmp_path, told, lambda _: False, name)
        left = {k: v for k, v in content(path).items() if not k.endswith(".cls")}
        assert content(out) == left
    else:
        assert out.read_bytes() == path.read_bytes()
