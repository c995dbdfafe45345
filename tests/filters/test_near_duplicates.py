"""Pictures a dataset holds more than once: measured by shard, reduced once, judged by shard."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.errors import ConfigError
from engine.pixels import probe
from engine.protocols import Context
from engine.schema import Tables, empty_claims, image_rows
from engine.source.measures import hash_picture, perceptual_hashes
from filters.image_duplicates import ExactDuplicate, NearDuplicate
from filters.image_hamming import distance, near_pairs, read_hashes
from tests.builders import all_fresh

HASH = 0x00FF00FF00FF00FF  # 32 bits set, as any picture has


def spelled(*numbers):
    return [f"{int(number):016x}" for number in numbers]


def shard(**columns):
    columns = {"status": "ok", "width": [640] * len(columns["image_key"]), **columns}
    columns.setdefault("height", [480] * len(columns["image_key"]))
    return Tables(image_rows(**columns), empty_claims())


def decisions(rule, *shards):
    return rule.reduce(pa.concat_tables([rule.measure(tables) for tables in shards]))


def verdicts(rule, *shards):
    """What becomes of each image of each shard: null where it is kept."""
    table = decisions(rule, *shards)
    found = {}
    for tables in shards:
        context = Context(fresh=np.ones(tables.images.num_rows, bool), decisions=table)
        answer = rule.judge(tables, context)
        keys = tables.images["image_key"].to_pylist()
        found |= dict(zip(keys, answer.against.to_pylist(), strict=True))
        assert answer.rejected.to_pylist() == [
            other is not None for other in answer.against.to_pylist()
        ]
    return found


def test_near_duplicates_are_found_across_shards_and_the_largest_is_kept():
    first = shard(
        image_key=["a", "b"], phash=spelled(HASH, HASH ^ 0b11), width=[100, 200], height=[50, 50]
    )
    second = shard(image_key=["c", "d"], phash=spelled(HASH ^ 0b1111, ~np.uint64(HASH)))
    assert verdicts(NearDuplicate(), first, second) == {"a": "c", "b": "c", "c": None, "d": None}
    table = decisions(NearDuplicate(), first, second)
    assert table.to_pylist() == [
        {"image_key": "a", "against": "c", "measured": 4.0},
        {"image_key": "b", "against": "c", "measured": 2.0},
    ]


def test_of_pictures_of_one_size_the_first_key_is_kept():
    given = shard(image_key=["b", "a", "c"], phash=spelled(HASH, HASH, HASH))
    assert verdicts(NearDuplicate(), given) == {"a": None, "b": "a", "c": "a"}


@pytest.mark.parametrize(("max_distance", "against"), [(3, None), (4, "a"), (16, "a")])
def test_the_distance_is_inclusive(max_distance, against):
    given = shard(image_key=["a", "b"], phash=spelled(HASH, HASH ^ 0b1111))
    assert verdicts(NearDuplicate(max_distance=max_distance), given) == {"a": None, "b": against}


def test_a_chain_of_small_changes_is_cut_and_not_followed():
    """a - b - c lie 3 apart each, a and c 6: b goes, and c has nothing left it is near to."""
    given = shard(image_key=["a", "b", "c"], phash=spelled(HASH, HASH ^ 0b111, HASH ^ 0b111111))
    assert verdicts(NearDuplicate(), given) == {"a": None, "b": "a", "c": None}


def picture_hash(picture):
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return perceptual_hashes([hash_picture(probe(stream.getvalue(), max_pixels=10**8).thumbnail)])[
        0
    ]


def test_plain_pictures_are_never_duplicates_of_each_other():
    """Their hashes are alike whatever they are of."""
    ramp = np.linspace(0, 255, 256)
    plain = [
        Image.new("L", (256, 256), 0),
        Image.new("L", (256, 256), 128),
        Image.new("L", (256, 256), 255),
        Image.fromarray(np.tile(ramp, (256, 1)).astype(np.uint8)),
        Image.fromarray(np.tile(ramp / 2, (256, 1)).astype(np.uint8)),
        Image.fromarray(np.tile(ramp, (256, 1)).T.astype(np.uint8)),
    ]
    hashes = [picture_hash(picture) for picture in plain]
    assert len(set(hashes)) < len(hashes)  # or there would be nothing to leave alone
    given = shard(image_key=[f"p{n}" for n in range(len(plain))], phash=hashes)
    assert set(verdicts(NearDuplicate(max_distance=16), given).values()) == {None}


def test_who_takes_part():
    """A failed picture has no hash; one rejected by another rule represents nobody."""
    given = shard(
        image_key=["a", "b", "c", "d", "e"],
        phash=[*spelled(HASH, HASH, HASH, HASH), None],
        status=["rejected", "ok", "rejected", "duplicate", "failed"],
        rule=["blank", None, "near_duplicate", None, None],
    )
    assert NearDuplicate().measure(given)["image_key"].to_pylist() == ["b", "c"]
    assert decisions(NearDuplicate(), given)["image_key"].to_pylist() == ["c"]


@pytest.mark.parametrize("rule", [NearDuplicate(), ExactDuplicate()])
def test_a_dataset_without_pictures_has_no_duplicates(rule):
    empty = shard(image_key=[])
    assert decisions(rule, empty).num_rows == 0
    assert verdicts(rule, empty) == {}


@pytest.mark.parametrize("rule", [NearDuplicate(), ExactDuplicate()])
def test_the_order_of_shards_changes_no_decision(rule):
    rng = np.random.default_rng(0)
    shards = [
        shard(
            image_key=[f"s{s}-{n}" for n in range(20)],
            phash=spelled(*(HASH ^ (1 << int(bit)) for bit in rng.integers(0, 64, 20))),
            sha256=[f"{int(digit):064x}" for digit in rng.integers(0, 9, 20)],
            width=rng.integers(1, 4, 20).tolist(),
        )
        for s in range(4)
    ]
    one, other = decisions(rule, *shards), decisions(rule, *reversed(shards))
    assert one.num_rows > 20
    assert one.equals(other)


def test_exact_duplicates_are_equal_files_whatever_they_look_like():
    first = shard(image_key=["b", "c"], sha256=["1" * 64, "2" * 64], phash=spelled(HASH, HASH))
    second = shard(image_key=["a", "d"], sha256=["2" * 64, None], phash=spelled(HASH, HASH))
    assert verdicts(ExactDuplicate(), first, second) == {"a": None, "b": None, "c": "a", "d": None}


def test_a_rule_over_the_dataset_says_so_where_nobody_reduced():
    given = shard(image_key=["a"], phash=spelled(HASH))
    with pytest.raises(ConfigError, match="'near_duplicate' must have seen the whole dataset"):
        NearDuplicate().judge(given, all_fresh(given))


@pytest.mark.parametrize("max_distance", [-1, 17])
def test_near_duplicate_refuses_a_distance_at_which_all_are_alike(max_distance):
    with pytest.raises(ConfigError, match=r"max_distance is .*; allowed: 0 to 16"):
        NearDuplicate(max_distance=max_distance)


def planted(seed, count):
    """Random hashes, some of them near others, some equal, some differing in one block alone."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    for place in np.flatnonzero(rng.random(count) < 0.5):
        bits = rng.choice(64, rng.integers(0, 18), replace=False)
        near = int(hashes[rng.integers(count)]) ^ sum(1 << int(bit) for bit in bits)
        hashes[place] = near
    return hashes


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 120),
    max_distance=st.integers(0, 16),
    blocks=st.integers(0, 6),
)
@settings(max_examples=150, deadline=None)
def test_near_pairs_are_those_of_brute_force_into_however_many_blocks(
    seed, count, max_distance, blocks
):
    hashes = planted(seed, count)
    expected = np.argwhere(np.triu(distance(hashes[:, None], hashes[None, :]) <= max_distance, 1))
    with pytest.MonkeyPatch.context() as patch:  # few hashes are compared one with another
        patch.setattr(
            "filters.image_hamming._num_blocks",
            lambda count, distance: distance + blocks if distance < 6 else distance + blocks % 3,
        )
        assert near_pairs(hashes, max_distance).tolist() == expected.tolist()


@pytest.mark.parametrize("max_distance", [2, 4, 6])
def test_near_pairs_of_many_hashes_are_those_of_brute_force(max_distance):
    hashes = planted(1, 20_000)
    expected = []
    for start in range(0, len(hashes), 500):
        near = distance(hashes[start : start + 500, None], hashes[None, :]) <= max_distance
        expected.append(np.argwhere(np.triu(near, start + 1)) + np.array([start, 0]))
    expected = np.concatenate(expected)
    assert len(expected) > 1_000
    assert near_pairs(hashes, max_distance).tolist() == expected.tolist()


@given(seed=st.integers(0, 2**32), count=st.integers(1, 60), max_distance=st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_kept_pictures_are_apart_and_every_other_is_near_a_kept_one(seed, count, max_distance):
    rng = np.random.default_rng(seed)
    hashes = [HASH ^ sum(1 << int(bit) for bit in rng.integers(0, 12, 4)) for _ in range(count)]
    keys = [f"k{n:02d}" for n in rng.permutation(count)]
    given = shard(image_key=keys, phash=spelled(*hashes), width=rng.integers(1, 3, count).tolist())
    found = verdicts(NearDuplicate(max_distance=max_distance), given)
    of_key = dict(zip(keys, read_hashes(given.images["phash"]), strict=True))
    kept = [key for key, against in found.items() if against is None]
    for key, against in found.items():
        if against is not None:
            assert against in kept
            assert distance(of_key[key], of_key[against]) <= max_distance
    for i, one in enumerate(kept):
        assert all(distance(of_key[one], of_key[other]) > max_distance for other in kept[i + 1 :])


def test_a_photo_is_found_again_smaller_and_recoded_and_no_two_photos_are_alike(data):
    photos = sorted((data / "coco80" / "images").glob("*.jpg"))
    keys, hashes = [], []
    for path in photos:
        picture = Image.open(path).convert("RGB")
        stream = io.BytesIO()
        picture.resize((picture.width // 2, picture.height // 2)).save(stream, "JPEG", quality=40)
        small = probe(stream.getvalue(), max_pixels=10**8).thumbnail
        whole = probe(path.read_bytes(), max_pixels=10**8).thumbnail
        keys += [path.stem, f"{path.stem}-small"]
        hashes += perceptual_hashes([hash_picture(whole), hash_picture(small)])
    given = shard(image_key=keys, phash=hashes, width=[640, 320] * len(photos))
    found = verdicts(NearDuplicate(), given)
    assert found == {
        key: key.removesuffix("-small") if key.endswith("-small") else None for key in keys
    }
