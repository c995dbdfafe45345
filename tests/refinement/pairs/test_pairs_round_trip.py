"""Rows become pairs, are written, read and decoded: the rows they came from, for every task."""

import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from engine.formats.florence2_codec import decode_bins, is_speakable, parse_answer
from engine.formats.florence2_tasks import TASKS, decode_answer, locate_phrases, read_prompt
from engine.geometry import reading_order
from engine.schema import ROLES, claims
from tests.refinement.pair_datasets import every, make, paired, pictures

WORDS = st.text(
    st.one_of(
        st.sampled_from("abz <>/_09.\u00e9\u4e2d\U0001f600"),
        st.characters(exclude_categories=("Cs",)),
    ),
    min_size=1,
    max_size=12,
).filter(lambda text: is_speakable(text) and text != "no")  # which tests.shards rejects
SHARE = st.floats(0, 1, width=32)
# Without shrinking: each try writes a dataset, and a shorter one tells no more.
SOME = settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
COLUMNS = (
    *("image_key", "annotation_id", "kind", "role", "text", "text_id"),
    *("span_start", "span_end", "box", "polygon"),
)


@st.composite
def boxes(draw, size):
    """xyxy in the image, as thin as it likes, but of an area."""
    low = np.float32(size) * np.float32([draw(SHARE), draw(SHARE)]) * np.float32(0.999)
    high = np.float32(size) * np.float32([draw(SHARE), draw(SHARE)])
    high = np.maximum(high, np.nextafter(low, np.float32(np.inf)))
    return [*low.tolist(), *high.tolist()]


@st.composite
def rings(draw, size, corners):
    places = np.float32(draw(st.lists(st.tuples(SHARE, SHARE), min_size=corners, max_size=corners)))
    return (places * np.float32(size)).reshape(-1).tolist()


@st.composite
def polygons(draw, size):
    """None, a quad, or an outline of several parts."""
    counts = draw(st.sampled_from([(), (4,), (3,), (5, 3), (4, 4, 6)]))
    return [draw(rings(size, count)) for count in counts] or None


@st.composite
def regions(draw, size):
    role = draw(st.sampled_from(ROLES["region"]))
    text = None if role == "proposal" else draw(WORDS)
    place = {"box": draw(boxes(size)), "polygon": draw(polygons(size))}
    return [{"kind": "region", "role": role, "text": text, **place}]


@st.composite
def captions(draw, size):
    """A text, and phrases at places of it."""
    words = draw(st.lists(WORDS, min_size=1, max_size=6))
    caption = " ".join(words)
    assume(is_speakable(caption))
    name, role = str(draw(st.uuids())), draw(st.sampled_from(ROLES["text"]))
    found = [{"kind": "text", "role": role, "text": caption, "annotation_id": name}]
    for word in draw(st.lists(st.sampled_from(words), max_size=4)):
        start = caption.index(word)
        place = {"span_start": start, "span_end": start + len(word), "text_id": name}
        place |= {"box": draw(boxes(size)), "polygon": draw(polygons(size))}
        found.append({"kind": "grounding", "role": "phrase", "text": word, **place})
    return found


@st.composite
def labelled_images(draw):
    """The size and rows of a few images."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        size = (draw(st.integers(1, 3000)), draw(st.integers(1, 3000)))
        groups = draw(st.lists(st.one_of(regions(size), captions(size)), max_size=8))
        rows = [row for group in groups for row in group]
        for place, row in enumerate(rows):
            row["image_key"] = f"image-{number}"
            row.setdefault("annotation_id", f"row-{number}-{place}")
        found.append((size, rows))
    return found


def examples_of(found, folder, task, order):
    """The examples of a task by image, once they went through files."""
    keys = [f"image-{number}" for number in range(len(found))]
    sizes = {"width": [size[0] for size, _ in found], "height": [size[1] for size, _ in found]}
    rows = [row for _, rows in found for row in rows]
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    place = make(folder, (pictures(*keys, **sizes), claims(source=["yolo"] * len(rows), **columns)))
    counts, pairs = paired(place, folder / "pairs", tasks={task.name: 1.0}, order=order)
    by_image = defaultdict(list)
    for example in every(pairs, task.name):
        assert example.image == f"picture of {example.image_key}".encode()
        by_image[example.image_key].append(example)
    assert counts.images == len(by_image)
    return [by_image[key] for key in keys]


def is_of(task, row):
    """Whether a row has what the answers of a task say."""
    if row["kind"] == "grounding":
        return task.takes == "text" and (task.form != "polygons" or bool(row["polygon"]))
    is_named = row["kind"] == (task.kind or "region") and row["role"] in task.roles
    return is_named and (task.form != "polygons" or bool(row["polygon"]))


def told(task, row, rows):
    """What a row says: its words, and its place as boxes and rings."""
    text = row["text"] and row["text"].strip()
    if task.kind == "grounding":
        (caption,) = (r["text"] for r in rows if r["annotation_id"] == row["text_id"])
        return (caption.strip(), text), [row["box"]]
    words = () if task.form in ("boxes", "polygons") and task.takes != "text" else (text,)
    place = [row["box"]] if task.takes == "region" or "boxes" in task.form else []
    if task.form == "labelled_polygons":
        place = [row["box"]]
    if task.form == "polygons":
        place = place + row["polygon"]
    if task.form == "quads":
        x_min, y_min, x_max, y_max = row["box"]
        quad = (
            row["polygon"] if row["polygon"] and [len(r) for r in row["polygon"]] == [8] else None
        )
        place = quad or [[x_min, y_min, x_max, y_min, x_max, y_max, x_min, y_max]]
    return words, place


def decoded(task, example, size):
    """What a pair says, in the same form."""
    asked, given = read_prompt(example.prompt)
    assert asked == task
    items, columns, num_lost = decode_answer(task, example.target, size)
    assert num_lost == 0
    asked_about = []
    if task.takes == "region":
        asked_about = decode_bins(parse_answer(given, "boxes").items[0].places, size).tolist()
    for place, item in enumerate(items):
        words = () if columns["text"] is None else (columns["text"][place],)
        if task.kind == "grounding":
            words = (given, *words)
            assert None not in locate_phrases(given, items)
        elif task.takes == "text":
            assert words in ((), (given,))
            words = (given,)
        said = [] if task.form == "text" else [columns["box"][place].tolist()]
        if columns["polygon"] is not None:
            said = columns["polygon"][place]
        assert item.label == ("" if columns["text"] is None else columns["text"][place])
        yield words, asked_about + said


def near(one, other, size):
    """Whether places are within a bin; a ring may begin elsewhere, or turn the other way."""
    if [len(ring) for ring in one] != [len(ring) for ring in other]:
        return False
    bin_wh = np.array(size) / 1000 * 1.001
    for first, second in zip(one, other, strict=True):
        if len(first) == 4:
            ways = [np.reshape(second, (2, 2))]
        else:
            corners = np.reshape(second, (-1, 2))
            turns = [np.roll(corners, turn, axis=0) for turn in range(len(corners))]
            ways = turns + [turn[::-1] for turn in turns]
        if not any((np.abs(np.reshape(first, (-1, 2)) - way) <= bin_wh).all() for way in ways):
            return False
    return True


def missing(things, others, size):
    """The things of which the others have none of the same words and place."""
    return [
        (words, place)
        for words, place in things
        if not any(words == w and near(place, p, size) for w, p in others)
    ]


@pytest.mark.parametrize(
    "task", [task for task in TASKS.values() if task.name != "ocr"], ids=lambda task: task.name
)
@SOME
@given(found=labelled_images(), order=st.sampled_from(["area", "reading", "given"]))
def test_pairs_decode_to_the_rows_they_came_from(task, found, order):
    assume(any(is_of(task, row) for _, rows in found for row in rows))
    with tempfile.TemporaryDirectory() as folder:
        by_image = examples_of(found, Path(folder), task, order)
    for (size, rows), examples in zip(found, by_image, strict=True):
        expected = [told(task, row, rows) for row in rows if is_of(task, row)]
        said = [thing for example in examples for thing in decoded(task, example, size)]
        assert missing(expected, said, size) == []
        assert missing(said, expected, size) == []


@SOME
@given(found=labelled_images(), order=st.sampled_from(["area", "reading"]))
def test_a_transcript_decodes_to_its_texts_in_reading_order(found, order):
    task = TASKS["ocr"]
    found = [(size, [row for row in rows if is_of(task, row)]) for size, rows in found]
    transcripts = []
    for _, rows in found:
        lines = np.float32([row["box"] for row in rows]).reshape(-1, 4)
        transcripts.append("".join(rows[n]["text"].strip() for n in reading_order(lines)))
    assume(any(transcripts) and all(is_speakable(text) for text in transcripts if text))
    with tempfile.TemporaryDirectory() as folder:
        by_image = examples_of(found, Path(folder), task, order)
    for (size, _), examples, transcript in zip(found, by_image, transcripts, strict=True):
        said = [decode_answer(task, each.target, size).columns["text"] for each in examples]
        assert said == ([[transcript]] if transcript else [])
