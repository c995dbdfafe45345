"""Which specialists go first, how a shard is cut into batches, and failures of single images."""

from dataclasses import dataclass

import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.failures import fail
from engine.schema import IMAGES
from engine.shard import add_failures, cut_batches, encoded_by_key, level_order
from engine.worker import BATCH
from tests.shards import FAILED, images


@dataclass
class Step:
    """As much of a specialist as an order needs."""

    name: str
    requires: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()


YOLO = Step("yolo", produces=("region/category",))
OCR = Step("ocr", produces=("region/ocr",))
COMPOSER = Step("composer", requires=("region/category", "region/ocr"), produces=("text/brief",))
GROUNDING = Step("grounding", requires=("text",), produces=("grounding/phrase",))


@pytest.mark.parametrize(
    ("specialists", "levels"),
    [
        pytest.param([], [], id="nobody"),
        pytest.param([YOLO, OCR], [["yolo", "ocr"]], id="independent"),
        pytest.param(
            [COMPOSER, OCR, YOLO], [["ocr", "yolo"], ["composer"]], id="config-order-kept"
        ),
        pytest.param(
            [GROUNDING, COMPOSER, YOLO, OCR],
            [["yolo", "ocr"], ["composer"], ["grounding"]],
            id="three-levels",
        ),
        pytest.param(
            [Step("any", requires=("region",), produces=("text/alt",)), YOLO, OCR],
            [["yolo", "ocr"], ["any"]],
            id="a-kind-means-all-its-roles",
        ),
        pytest.param(
            [Step("wide", produces=("region",)), Step("x", requires=("region/ocr",))],
            [["wide"], ["x"]],
            id="a-kind-is-produced-with-all-its-roles",
        ),
        pytest.param(
            [YOLO, OCR, COMPOSER, Step("late", requires=("text/brief", "region/ocr"))],
            [["yolo", "ocr"], ["composer"], ["late"]],
            id="above-the-highest-of-its-producers",
        ),
    ],
)
def test_level_order_puts_everyone_above_what_it_needs(specialists, levels):
    assert level_order(specialists) == levels


@pytest.mark.parametrize(
    ("specialists", "message"),
    [
        pytest.param(
            [YOLO, COMPOSER], "'composer' requires region/ocr rows and neither", id="no-producer"
        ),
        pytest.param(
            [Step("echo", requires=("text",), produces=("text/alt",))],
            "'echo' requires text rows and neither",
            id="its-own-rows-do-not-count",
        ),
        pytest.param(
            [
                YOLO,
                Step("a", requires=("text/alt",), produces=("text/brief",)),
                Step("b", requires=("text/brief",), produces=("text/alt",)),
            ],
            "'a', 'b' wait for each other's rows; none can go first",
            id="circle",
        ),
    ],
)
def test_level_order_says_who_cannot_go(specialists, message):
    with pytest.raises(ConfigError, match=message):
        level_order(specialists)


def batches(table, positions=None, batch_size=2):
    data = [f"pixels of {key}".encode() for key in table["image_key"].to_pylist()]
    states = table["status"].to_pylist()
    data = [content if state == "ok" else None for content, state in zip(data, states, strict=True)]
    chosen = range(table.num_rows) if positions is None else positions
    return cut_batches(table, data, chosen, batch_size)


def keys(cut):
    return [batch["image_key"].to_pylist() for batch in cut]


def test_cut_batches_of_no_images_is_no_batches():
    assert batches(images()) == []
    assert batches(images("a", status=["failed"])) == []


def test_batches_are_cut_by_place_in_the_plan():
    """Who shares a batch does not depend on which of the others can be decoded."""
    table = images(*"abcdefg", status=["ok", "failed", "ok", "ok", "failed", "duplicate", "ok"])
    assert keys(batches(table)) == [["a"], ["c", "d"], ["g"]]
    assert keys(batches(table, batch_size=100)) == [["a", "c", "d", "g"]]


def test_batches_of_chosen_places_keep_their_cut():
    assert keys(batches(images(*"abcde"), positions=[1, 2, 4])) == [["b"], ["c"], ["e"]]


def test_batches_hold_sizes_and_bytes():
    (batch,) = batches(images("a", "b"))
    assert batch.schema == BATCH
    assert batch["width"].to_pylist() == [8, 8]
    shared = encoded_by_key([batch])
    assert {key: bytes(data) for key, data in shared.items()} == {
        "a": b"pixels of a",
        "b": b"pixels of b",
    }
    assert encoded_by_key([]) == {}


def test_add_failures_of_nothing_changes_nothing():
    table = images("a", failures=[FAILED])
    assert add_failures(table, []) is table


def test_add_failures_appends_and_leaves_the_status():
    table = images("a", "b", failures=[FAILED, None])
    more = [
        ("a", fail("annotate", "raised", "boom", source="yolo")),
        ("a", fail("annotate", "timeout", source="ocr")),
    ]
    found = add_failures(table, more)
    assert found.schema == IMAGES
    assert [entry["cause"] for entry in found["failures"][0].as_py()] == [
        "corrupt",
        "raised",
        "timeout",
    ]
    assert found["failures"][1].as_py() == []  # as reading a shard spells it too
    assert found.drop_columns("failures").equals(table.drop_columns("failures"))
    assert isinstance(found, pa.Table)
