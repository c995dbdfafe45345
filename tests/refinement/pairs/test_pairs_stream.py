"""The order in which a training meets its pairs, and their pictures.

How tasks are dealt out and epochs permuted is in `test_task_mixture`, who is held out in
`test_pairs_write`.
"""

import gc
import pickle
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from engine.errors import ConfigError, ShardError
from engine.source.shapes import ReadError
from refinement.pairs import files as pair_files
from refinement.pairs import stream as pairs_module
from refinement.pairs.folds import fold_of
from refinement.pairs.stream import Pairs
from tests.refinement.pair_datasets import every, make, many, paired, pictures, regions, sha
from tests.shards import VERSION

BOTH = {"od": 3.0, "caption": 1.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset of 60 images with boxes and a text each, and its pairs."""
    folder = tmp_path_factory.mktemp("stream")
    place = many(folder)
    paired(place, folder / "pairs", tasks=BOTH, valid_share=0.2, seed=3)
    return place, folder / "pairs"


@pytest.fixture
def pairs(made):
    place, folder = made
    return Pairs.open(folder, place.output)


def keys(examples):
    return [(each.task, each.image_key) for each in examples]


def test_where_there_are_no_pairs_that_is_said(tmp_path, made):
    with pytest.raises(ConfigError, match="nothing: no training pairs there"):
        Pairs.open(tmp_path / "nothing", made[0].output)
    (tmp_path / "pairs.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"pairs\.json: is damaged"):
        Pairs.open(tmp_path, made[0].output)


def test_a_damaged_file_is_named(tmp_path, made):
    place, folder = made
    shutil.copytree(folder, tmp_path / "pairs")
    path = tmp_path / "pairs" / "000001.arrow"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match=r"000001\.arrow: is no file of training pairs"):
        Pairs.open(tmp_path / "pairs", place.output)
    with pa.ipc.new_file(path, pa.schema([("a", pa.int8())])):
        pass
    with pytest.raises(ConfigError, match=r"000001\.arrow: .*other columns or tasks"):
        Pairs.open(tmp_path / "pairs", place.output)


def test_an_epoch_has_every_pair_of_a_task_once_in_an_order_of_its_own(pairs):
    stream = pairs.stream(seed=0)
    assert stream.len_epoch == pairs.counts.train
    count = stream.len_epoch["od"]
    assert 30 < count < 60
    epochs = [
        [stream.draw("od", epoch * count + n).image_key for n in range(count)] for epoch in range(3)
    ]
    assert all(len(set(epoch)) == count for epoch in epochs)
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2])
    assert len({tuple(epoch) for epoch in [*epochs, sorted(epochs[0])]}) == 4


def test_any_place_is_the_same_however_it_is_come_by(made, pairs):
    stream = pairs.stream(seed=11)
    walked = [stream.at(place) for place in range(150)]
    fresh = Pairs.open(made[1], made[0].output).stream(seed=11)
    assert [fresh.at(place) for place in (149, 3, 70)] == [walked[149], walked[3], walked[70]]
    assert fresh.batch(40, 25) == walked[40:65]
    assert fresh.batch(7, 0) == []
    draws = Counter()
    for example in walked:
        assert stream.draw(example.task, draws[example.task]) == example
        draws[example.task] += 1


def test_tasks_come_by_their_weights(pairs):
    def seen(**options):
        stream = pairs.stream(seed=0, **options)
        return Counter(example.task for example in stream.batch(0, 40))

    assert seen() == {"od": 30, "caption": 10}
    assert seen(weights={"caption": 4.0, "od": 1.0}) == {"od": 8, "caption": 32}
    assert seen(weights={"caption": 0.1}) == {"caption": 40}


def test_how_weights_are_written_down_changes_nothing(pairs):
    one = pairs.stream(seed=0, weights={"caption": 1.0, "od": 1.0})
    other = pairs.stream(seed=0, weights={"od": 2.0, "caption": 2.0})
    assert one.batch(0, 20) == other.batch(0, 20)


def test_another_seed_is_another_order(pairs):
    orders = [keys(pairs.stream(seed=seed).batch(0, 60)) for seed in (0, 1, 0)]
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]


def test_tasks_do_not_go_through_the_images_in_step(pairs):
    stream = pairs.stream(seed=0)
    drawn = [[stream.draw(task, n).image_key for n in range(30)] for task in BOTH]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("split", ["train", "valid"])
def test_images_of_a_fold_left_out_do_not_come_and_all_others_do(pairs, split):
    whole = pairs.stream(split=split, seed=0)
    all_keys = {whole.draw("od", n).image_key for n in range(whole.len_epoch["od"])}
    met = Counter()
    for fold in range(3):
        stream = pairs.stream(split=split, seed=fold, without_fold=(3, fold))
        seen = {stream.draw("od", n).image_key for n in range(stream.len_epoch["od"])}
        in_fold = {key for key in all_keys if fold_of([sha(key)], 3, pairs.seed)[0] == fold}
        assert seen == all_keys - in_fold
        met.update(seen)
    assert met == dict.fromkeys(all_keys, 2)


def test_duplicates_are_in_one_fold_wherever_they_lie(tmp_path):
    same = {"sha256": [sha("same")] * 2}
    rows = regions(("a", "dog", [1, 1, 9, 9]), ("b", "dog", [1, 1, 9, 9]))
    others = [
        (pictures(key), regions((key, "cat", [1, 1, 9, 9]))) for key in ("c", "d", "e", "f", "g")
    ]
    place = make(tmp_path, (pictures("a", "b", **same), rows), *others)
    _, pairs = paired(place, tmp_path / "pairs", valid_share=0.0)
    for fold in range(2):
        stream = pairs.stream(seed=0, without_fold=(2, fold))
        seen = {stream.draw("od", n).image_key for n in range(stream.len_epoch["od"])}
        assert ("a" in seen) == ("b" in seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {}}, "weights is empty"),
        ({"weights": {"od": -1.0}}, r"weights\.od is -1"),
        ({"weights": {"ocr": 1.0}}, "no pairs of 'ocr'; of caption, od"),
        ({"without_fold": (3, 3)}, "fold 3 of 3; folds count from 0"),
        ({"without_fold": (0, 0)}, "fold 0 of 0; folds count from 0"),
        (
            {"without_fold": (1, 0)},
            "'caption' has no pair left to train on once fold 0 of 1 is out",
        ),
    ],
)
def test_a_stream_of_what_there_is_not_is_refused(pairs, options, message):
    with pytest.raises(ConfigError, match=message):
        pairs.stream(seed=0, **options)


def test_a_split_of_nothing_has_no_places(tmp_path):
    place = make(tmp_path, (pictures("a"), regions(("a", "dog", [1, 1, 9, 9]))))
    _, pairs = paired(place, tmp_path / "pairs", valid_share=0.0)
    stream = pairs.stream(split="valid", seed=0)
    assert stream.len_epoch == {"od": 0}
    with pytest.raises(IndexError, match="none is held out"):
        stream.at(0)
    with pytest.raises(IndexError, match="'od', which has 0 pairs"):
        stream.draw("od", 0)
    assert [pairs.stream(seed=0).at(place).image_key for place in (0, 10**15)] == ["a", "a"]


def test_an_example_is_found_by_task_and_number(pairs):
    assert len({each.image_key for each in every(pairs, "caption")}) == 60
    assert {each.task for each in every(pairs, "caption")} == {"caption"}
    for number in (-1, 60):
        with pytest.raises(IndexError, match=f"example {number} of 60 of the task 'od'"):
            pairs.example("od", number)
    with pytest.raises(ConfigError, match="no pairs of 'ocr'; of caption, od"):
        pairs.example("ocr", 0)


def test_pairs_travel_to_other_processes_and_threads(pairs):
    stream = pickle.loads(pickle.dumps(pairs)).stream(seed=0)
    expected = pairs.stream(seed=0).batch(0, 100)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(stream.at, range(100))) == expected


def test_few_files_are_open_at_a_time(made, monkeypatch):
    monkeypatch.setattr(pair_files, "_OPEN_FILES", 1)
    monkeypatch.setattr(pairs_module, "_OPEN_TARS", 1)
    place, folder = made
    pairs = Pairs.open(folder, place.output)
    found = pairs.stream(seed=0).batch(0, 60)
    gc.collect()
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert maps.read_text().count(str(folder)) <= 1
    monkeypatch.undo()
    assert Pairs.open(folder, place.output).stream(seed=0).batch(0, 60) == found


def test_shards_larger_than_a_batch_are_read_by_their_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(pair_files, "_BATCH_ROWS", 7)
    place = many(tmp_path, 30, num_shards=1)
    _, pairs = paired(place, tmp_path / "pairs", valid_share=0.0, tasks=BOTH)
    reader = pa.ipc.open_file(tmp_path / "pairs" / "000000.arrow")
    assert reader.num_record_batches == 9
    assert Counter(keys(every(pairs))) == Counter(("od", f"image-{n}") for n in range(30))
    assert all(each.image == f"picture of {each.image_key}".encode() for each in every(pairs))


def test_a_tar_that_is_gone_or_shorter_is_named(tmp_path):
    place = make(tmp_path, (pictures("a"), regions(("a", "dog", [1, 1, 9, 9]))))
    _, pairs = paired(place, tmp_path / "pairs", valid_share=0.0)
    tar = Path(place.output.root) / VERSION / "000000.tar"
    tar.write_bytes(tar.read_bytes()[:515])
    with pytest.raises(ShardError, match=r"round-0/000000\.tar is gone or damaged \(ends early\)"):
        pairs.stream(seed=0).at(0)
    tar.unlink()
    pairs = Pairs.open(tmp_path / "pairs", place.output)
    with pytest.raises(ShardError, match=r"round-0/000000\.tar is gone or damaged \(there is no"):
        pairs.stream(seed=0).at(0)


@dataclass(frozen=True)
class FarPlace:
    """A bucket as seen from here: what is read at a place is one request."""

    output: object
    requests: list

    @property
    def uri(self):
        return "s3://far/out"

    @property
    def readers(self):
        return 4

    def open(self, path):
        self.requests.append(path)
        return self.output.open(path)

    def read(self, path, *, max_bytes=None):
        self.requests.append(path)
        return self.output.read(path)

    def __getattr__(self, name):
        return getattr(self.output, name)


def test_from_far_away_tars_are_opened_once_and_read_at_places(made, pairs):
    place, folder = made
    far = FarPlace(place.output, [])
    found = Pairs.open(folder, far).stream(seed=0).batch(0, 50)
    assert found == pairs.stream(seed=0).batch(0, 50)
    assert set(far.requests) == {f"round-0/00000{n}.tar" for n in range(3)}
    assert len(far.requests) <= 3 * far.readers  # those who came at the same moment open it, too


def test_pairs_of_a_far_dataset_are_the_same(tmp_path, made):
    place, folder = made
    far = FarPlace(place.output, [])
    target = type("Target", (), {"output": far})
    paired(target, tmp_path / "pairs", tasks=BOTH, valid_share=0.2, seed=3)
    for name in ("000000.arrow", "000001.arrow", "000002.arrow"):
        assert (tmp_path / "pairs" / name).read_bytes() == (folder / name).read_bytes()


def test_a_far_place_that_does_not_answer_is_told(made):
    class Silent(FarPlace):
        def open(self, path):
            raise ReadError("unreadable", "the storage cannot be reached")

    far = Silent(made[0].output, [])
    with pytest.raises(ShardError, match="the storage cannot be reached"):
        Pairs.open(made[1], far).stream(seed=0).batch(0, 2)
