"""What becomes a training pair, what does not and why, and how a cut-off command goes on.

That pairs say what their rows say is in `test_pairs_round_trip`.
"""

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.config import build
from engine.errors import ConfigError, ShardError
from engine.schema import claims
from refinement.pairs.folds import is_held_out
from refinement.pairs.options import PairOptions
from refinement.pairs.stream import Pairs
from tests.judged import filter_version
from tests.refinement.pair_datasets import SERIAL, every, make, many, paired, pictures, regions, sha
from tests.shards import FAILED, VERSION, commit, dataset

BOX, OTHER = [10, 10, 50, 40], [0, 0, 100, 80]


def files_of(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": {}}, r"tasks is empty; name one task or more"),
        ({"tasks": {"ocr_with_regon": 1.0}}, r"tasks\.ocr_with_regon.*mean 'ocr_with_region'"),
        ({"tasks": {"od": 0.0}}, r"tasks\.od is 0; give a weight above 0"),
        ({"tasks": {"od": float("nan")}}, r"tasks\.od is nan; give a weight above 0"),
        ({"order": "random"}, r"refine\.pairs\.order"),
        ({"max_items": 0}, r"max_items is 0; give 1 or more, or null"),
        ({"max_characters": 0}, r"max_characters is 0; give 1 or more"),
        ({"valid_share": 1.0}, r"valid_share is 1; give a share"),
        ({"valid_share": -0.1}, r"valid_share is -0\.1; give a share"),
        ({"max_item": 3}, r"refine\.pairs\.max_item is not an option; did you mean 'max_items'"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, message):
    with pytest.raises(ConfigError, match=message):
        build(PairOptions, options, "refine.pairs")


def test_what_is_no_dataset_or_version_is_refused(tmp_path):
    place = dataset(tmp_path / "empty", ["a"])
    with pytest.raises(ConfigError, match="no label version 'round-7'"):
        paired(place, tmp_path / "pairs", version="round-7")
    with pytest.raises(ConfigError, match=r"no kept row gives the task 'od'.*nothing at all"):
        paired(place, tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()


def test_each_image_with_kept_rows_gives_its_pair_and_picture(tmp_path):
    rows = regions(("a", "dog", BOX), ("a", "no", OTHER), ("c", "cat", OTHER))
    place = make(tmp_path, (pictures("a", "b", "c"), rows))
    counts, pairs = paired(place, tmp_path / "pairs", valid_share=0.0)
    assert [(each.image_key, each.prompt, each.target, each.image) for each in every(pairs)] == [
        ("a", "<OD>", "dog<loc_100><loc_125><loc_500><loc_500>", b"picture of a"),
        ("c", "<OD>", "cat<loc_0><loc_0><loc_999><loc_999>", b"picture of c"),
    ]
    assert (every(pairs)[0].width, every(pairs)[0].height) == (100, 80)
    assert (counts.examples, counts.images, counts.left_out) == ({"od": 2}, 2, {})
    assert pairs.counts == counts
    assert pairs.tasks == ("od",)


def test_images_that_are_not_ok_give_no_pair(tmp_path):
    table = pictures(
        *("a", "b", "c"), status=["ok", "failed", "rejected"], failures=[None, FAILED, None]
    )
    rows = regions(("a", "dog", BOX), ("b", "dog", BOX), ("c", "dog", BOX))
    counts, pairs = paired(make(tmp_path, (table, rows)), tmp_path / "pairs")
    assert [each.image_key for each in every(pairs)] == ["a"]
    assert counts.left_out == {}  # they are no candidates, whatever their tars hold


@pytest.mark.parametrize(
    ("column", "wrong", "reason"),
    [
        ("sha256", None, "no_sha256"),
        ("sha256", "abc", "no_sha256"),
        ("width", None, "no_size"),
        ("height", 0, "no_size"),
    ],
)
def test_images_that_lack_something_are_left_out_and_counted(tmp_path, column, wrong, reason):
    good = pictures("a")[column][0].as_py()
    table = pictures("a", "b", "c", **{column: [good, wrong, wrong]})
    rows = regions(("a", "dog", BOX), ("b", "dog", BOX))  # c has nothing to lose
    counts, pairs = paired(make(tmp_path, (table, rows)), tmp_path / "pairs")
    assert counts.left_out == {reason: 1}
    assert [each.image_key for each in every(pairs)] == ["a"]


def test_images_without_a_picture_are_left_out_and_counted(tmp_path):
    rows = regions(("a", "dog", BOX), ("b", "dog", BOX))
    place = make(tmp_path, (pictures("a", "b"), rows), bare=["b"])
    counts, _ = paired(place, tmp_path / "pairs")
    assert (counts.images, counts.left_out) == (1, {"no_picture": 1})


def test_pictures_of_a_filtered_version_are_those_of_its_parent(tmp_path):
    place = many(tmp_path, 6, num_shards=2)
    before, _ = paired(place, tmp_path / "before")
    filter_version(place)
    with pytest.raises(ConfigError, match="no kept row gives the task 'od'"):
        # its tables say that everything was rejected, its markers are still those of its parent
        paired(place, tmp_path / "nothing", version="round-0.filter-1")
    root = Path(place.output.root)
    for table in (root / VERSION).glob("*.annotations.parquet"):
        shutil.copy(table, root / "round-0.filter-1" / table.name)
    counts, pairs = paired(place, tmp_path / "after", version="round-0.filter-1")
    assert counts == before
    assert {each.image for each in every(pairs)} == {
        f"picture of image-{n}".encode() for n in range(6)
    }


def test_rows_marked_ignore_and_rows_that_say_nothing_are_counted(tmp_path):
    rows = regions(
        *(("a", "dog", BOX), ("a", "crowd", OTHER), ("a", "<loc_1>", BOX), ("a", None, BOX)),
        *(("a", "cat", None), ("a", "cow", [5, 5, 5, 9])),
        ignore=[False, True, False, False, False, False],
    )
    counts, pairs = paired(make(tmp_path, (pictures("a"), rows)), tmp_path / "pairs")
    assert [each.target for each in every(pairs)] == ["dog<loc_100><loc_125><loc_500><loc_500>"]
    assert counts.left_out == {"ignored": 1, "not_said": 4}


def test_answers_that_are_too_long_are_left_out_whole_and_counted(tmp_path):
    rows = regions(("a", "dog", BOX), *[("b", f"dog {n}", BOX) for n in range(3)])
    place = make(tmp_path, (pictures("a", "b"), rows))
    length = len("<OD>dog<loc_100><loc_125><loc_500><loc_500>")
    counts, pairs = paired(place, tmp_path / "items", max_items=2)
    assert (len(every(pairs)), counts.left_out) == (1, {"too_many_items": 1})
    counts, pairs = paired(place, tmp_path / "long", max_characters=length)
    assert (len(every(pairs)), counts.left_out) == (1, {"too_long": 1})
    counts, _ = paired(place, tmp_path / "all", max_items=3)
    assert (counts.examples, counts.left_out) == ({"od": 2}, {})
    with pytest.raises(ConfigError, match="left out, too_long 2"):
        paired(place, tmp_path / "none", max_characters=length - 1)


def test_the_caption_asked_about_is_no_item_of_the_answer(tmp_path):
    rows = claims(
        image_key=["a", "a"],
        annotation_id=["text", "phrase"],
        kind=["text", "grounding"],
        role=["brief", "phrase"],
        text=["a dog", "dog"],
        text_id=[None, "text"],
        box=[None, BOX],
        source="yolo",
    )
    task = "caption_to_phrase_grounding"
    place = make(tmp_path, (pictures("a"), rows))
    counts, _ = paired(place, tmp_path / "pairs", tasks={task: 1.0}, max_items=1)
    assert counts.examples == {task: 1}


@pytest.mark.parametrize(
    ("order", "first"), [("reading", "left"), ("area", "large"), ("given", "given")]
)
def test_places_come_in_the_order_asked_for(tmp_path, order, first):
    places = {"given": [60, 1, 70, 11], "large": [30, 1, 59, 19], "left": [1, 1, 11, 11]}
    entries = [("a", name, box) for name, box in places.items()]
    rows = pa.concat_tables(
        [
            regions(*entries),
            regions(*entries, role="ocr", annotation_id=["x", "y", "z"]),
        ]
    )
    place = make(tmp_path, (pictures("a"), rows))
    _, pairs = paired(place, tmp_path / "pairs", order=order, tasks={"od": 1.0, "ocr": 1.0})
    assert pairs.example("od", 0).target.startswith(first)
    by_reading = "leftlargegiven"
    assert pairs.example("ocr", 0).target == ("givenlargeleft" if order == "given" else by_reading)


def test_gold_rows_never_train_nor_what_was_made_of_them(tmp_path):
    rows = regions(
        *(
            ("a", "dog", BOX),
            ("a", "gold", OTHER),
            ("a", "child", OTHER),
            ("a", "grandchild", OTHER),
        ),
        annotation_id=["1", "2", "3", "4"],
        source=["yolo", "people", "composer", "composer"],
        parents=[None, None, ["2"], ["9", "3"]],
        human=[False, True, False, False],
    )
    place = make(tmp_path, (pictures("a"), rows))
    counts, pairs = paired(place, tmp_path / "pairs", gold=["people"])
    assert [each.target[:3] for each in every(pairs)] == ["dog"]
    assert counts.left_out == {"gold": 3}
    _, pairs = paired(place, tmp_path / "without")
    assert "grandchild" in every(pairs)[0].target


def test_a_task_of_gold_alone_is_refused(tmp_path):
    rows = regions(
        ("a", "dog", BOX), ("a", "STOP", BOX), role=["category", "ocr"], source=["yolo", "people"]
    )
    place = make(tmp_path, (pictures("a"), rows))
    with pytest.raises(ConfigError, match=r"'ocr' are of 'people', which is gold, and gold never"):
        paired(place, tmp_path / "pairs", gold=["people"], tasks={"od": 1.0, "ocr": 1.0})


def test_a_task_without_rows_is_refused_and_told_what_there_is(tmp_path):
    place = make(tmp_path, (pictures("a"), regions(("a", "dog", BOX), ("a", "no", BOX))))
    with pytest.raises(
        ConfigError,
        match=r"'caption' an example; it is made of text/brief; found: region/category 1;",
    ):
        paired(place, tmp_path / "pairs", tasks={"caption": 1.0, "od": 1.0})
    with pytest.raises(
        ConfigError, match=r"region/category .* with a polygon; found: .*not_said 1"
    ):
        paired(place, tmp_path / "outlines", tasks={"region_to_segmentation": 1.0})
    with pytest.raises(ConfigError, match="its pairs are not all there; run the command"):
        Pairs.open(tmp_path / "outlines", place.output)


def test_images_held_out_are_those_of_their_digest_and_never_trained_on(tmp_path):
    place = many(tmp_path, 60)
    counts, pairs = paired(place, tmp_path / "pairs", seed=5, valid_share=0.3)
    keys = [f"image-{n}" for n in range(60)]
    held_out = is_held_out([sha(key) for key in keys], 0.3, 5)
    expected = {key for key, held in zip(keys, held_out, strict=True) if held}
    assert 0 < len(expected) < 60
    for split, wanted in (("valid", expected), ("train", set(keys) - expected)):
        stream = pairs.stream(split=split, seed=0)
        seen = [stream.draw("od", n).image_key for n in range(stream.len_epoch["od"])]
        assert Counter(seen) == Counter(wanted)
    assert counts.valid == {"od": len(expected)}
    assert counts.train == {"od": 60 - len(expected)}


def test_the_same_call_changes_nothing_and_another_folder_gets_the_same_bytes(tmp_path):
    place = many(tmp_path)
    options = {"tasks": {"caption": 1.0, "od": 1.0}}
    first, _ = paired(place, tmp_path / "pairs", **options)
    before = files_of(tmp_path / "pairs")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "pairs").glob("*.arrow")}
    again, _ = paired(place, tmp_path / "pairs", **options)
    assert again == first
    assert files_of(tmp_path / "pairs") == before
    for path in (tmp_path / "pairs").glob("*.arrow"):
        assert path.stat().st_mtime_ns == times[path.name]
    paired(place, tmp_path / "other", tasks={"od": 1.0, "caption": 1.0})
    assert files_of(tmp_path / "other") == before
    assert sorted(before) == ["000000.arrow", "000001.arrow", "000002.arrow", "pairs.json"]


def test_a_cut_off_command_goes_on_where_it_stopped(tmp_path):
    place = many(tmp_path)
    folder = tmp_path / "pairs"
    counts, _ = paired(place, folder)
    before = files_of(folder)

    def stop(what, done, total):
        assert (what, total) == ("paired", 3)
        if done == 1:
            raise KeyboardInterrupt

    shutil.rmtree(folder)
    with pytest.raises(KeyboardInterrupt):
        write(place, folder, stop)
    assert sorted(path.name for path in folder.iterdir()) == ["000000.arrow", "pairs.json"]
    with pytest.raises(ConfigError, match="not all there"):
        Pairs.open(folder, place.output)
    (folder / ".000001.arrow.17.tmp").write_bytes(b"half")
    (folder / "000002.arrow").write_bytes(b"ARROW1 and no more")
    told = []
    assert write(place, folder, lambda *each: told.append(each)) == counts
    assert told == [("paired", 1, 3), ("paired", 2, 3), ("paired", 3, 3)]
    assert files_of(folder) == before


def write(place, folder, progress):
    from refinement.pairs.writer import write_pairs

    options = PairOptions()
    return write_pairs(
        place.output, VERSION, options, folder, runner=SERIAL, seed=0, progress=progress
    )


def test_pairs_of_a_shard_that_was_made_again_are_made_again(tmp_path):
    place = make(
        tmp_path,
        (pictures("a"), regions(("a", "dog", BOX))),
        (pictures("b"), regions(("b", "cat", BOX))),
    )
    _, pairs = paired(place, tmp_path / "pairs")
    assert every(pairs)[0].image == b"picture of a"
    commit(place, 0, pictures("a"), regions(("a", "horse", BOX)))
    told = []
    write(place, tmp_path / "pairs", lambda *each: told.append(each))
    assert told == [("paired", 1, 2), ("paired", 2, 2)]
    found = every(Pairs.open(tmp_path / "pairs", place.output))
    assert [each.target[:3] for each in found] == ["hor", "cat"]
    assert found[0].image == b"pixels of a"


def test_files_of_shards_that_are_no_more_are_removed(tmp_path):
    place = many(tmp_path, 6, num_shards=2)
    paired(place, tmp_path / "pairs")
    shutil.copy(tmp_path / "pairs" / "000000.arrow", tmp_path / "pairs" / "000009.arrow")
    _, pairs = paired(place, tmp_path / "pairs")
    assert pairs.counts.examples == {"od": 6}
    assert not (tmp_path / "pairs" / "000009.arrow").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"order": "area"}, r'options\.order: "reading" -> "area"'),
        ({"tasks": {"caption": 1.0}}, r"options\.tasks"),
        ({"seed": 1}, r"seed: 0 -> 1"),
        ({"gold": ["people"]}, r"gold"),
    ],
)
def test_a_folder_of_other_pairs_is_refused(tmp_path, changed, message):
    place = many(tmp_path, 6)
    paired(place, tmp_path / "pairs")
    before = files_of(tmp_path / "pairs")
    with pytest.raises(ConfigError, match=f"pairs of another kind; differences: .*{message}"):
        paired(place, tmp_path / "pairs", **changed)
    assert files_of(tmp_path / "pairs") == before


def test_other_weights_make_no_other_pairs(tmp_path):
    place = many(tmp_path, 6)
    paired(place, tmp_path / "pairs", tasks={"od": 1.0, "caption": 1.0})
    before = (tmp_path / "pairs" / "000000.arrow").stat().st_mtime_ns
    _, pairs = paired(place, tmp_path / "pairs", tasks={"od": 3.0, "caption": 1.0})
    assert (tmp_path / "pairs" / "000000.arrow").stat().st_mtime_ns == before
    assert pairs.weights == {"od": 3.0, "caption": 1.0}


def test_folders_that_hold_something_else_are_refused(tmp_path):
    place = many(tmp_path, 6)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="file: is a file; give a folder"):
        paired(place, tmp_path / "file")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "000000.arrow").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"holds Arrow files without a pairs\.json"):
        paired(place, tmp_path / "foreign")
    assert (tmp_path / "foreign" / "000000.arrow").read_bytes() == b"mine"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pairs.json").write_text("{")
    with pytest.raises(ConfigError, match=r"its pairs\.json is damaged; delete the folder"):
        paired(place, tmp_path / "broken")


@pytest.mark.parametrize(
    "name", ["000000.tar", "000000.images.parquet", "000000.annotations.parquet"]
)
def test_a_damaged_shard_is_named(tmp_path, name):
    place = many(tmp_path, 6)
    path = Path(place.output.root) / VERSION / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ShardError, match=f"round-0/{name} is gone or damaged"):
        paired(place, tmp_path / "pairs")


def test_notes_stand_in_the_files_that_other_tools_read(tmp_path):
    place = many(tmp_path, 6, num_shards=1)
    paired(place, tmp_path / "pairs")
    table = pa.ipc.open_file(tmp_path / "pairs" / "000000.arrow").read_all()
    assert table["tar"].to_pylist() == ["round-0/000000.tar"] * 6
    rows = pq.read_table(Path(place.output.root) / VERSION / "000000.images.parquet")
    assert table["sha256"].to_pylist() == rows["sha256"].to_pylist()
    content = json.loads((tmp_path / "pairs" / "pairs.json").read_text())
    assert content["counts"]["examples"] == {"od": 6}
