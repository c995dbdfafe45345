"""A dataset whose every word is meant to break the page, card or picture made of it."""

import io
from pathlib import Path

import pyarrow as pa
from PIL import Image

from engine.schema import claims
from tests.shards import Expected, Target, dataset, images, verdicts, write_shard

NAN, INF = float("nan"), float("inf")
MARKUP = "<script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"
QUOTES = "\"'><b onload=alert(1)>&amp;&lt;"
WORDS = [
    MARKUP,
    QUOTES,
    "</style></title><iframe src=http://example.org></iframe>",
    "\u202egnp.exe\u202c \u2066\u200b\ufeff",  # turned round, isolated, invisible
    "\x00\x01\x1b[31m\x7f\x85\u2028",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \U0001f600\U0001f468\u200d\U0001f469",
    "a" * 1_000_000,
    "long " * 100_000,
    "| a | b |\n---\n# heading\n```\n[x](javascript:alert(1))",
    "",
    "{{7*7}} ${x} %s \\",
]
BOXES = [
    *([0, 0, 4, 4], [NAN] * 4, [-INF, 0, INF, 9], [9, 9, 1, 1], [2, 2, 2, 2], None),
    *([-5e30, 0, 5e30, 1], [1, 1, 3e38, 3e38], [0, 0, 8, 6], [7.99, 5.99, 8, 6], [0, 0, 0, 0]),
]


def hostile_dataset(folder: Path) -> Target:
    """One shard: an image with rows of all kinds, one that failed, one that says it decodes."""
    count = len(WORDS)
    place = dataset(folder, ["a", "broken", "lost"])
    failure = {"stage": "decode", "source": MARKUP, "cause": QUOTES, "message": WORDS[3]}
    table = images(
        *("a", "broken", "lost"),
        status=["ok", "failed", "ok"],
        uri=[MARKUP, QUOTES, "x" * 100_000],
        licence=[MARKUP, "| x |\n\n# y", None],
        failures=[None, [failure], None],
        width=[8, None, 8],
        sharpness=[NAN, None, INF],
    )
    kinds = ["text", "region", "grounding"]
    rows = claims(
        image_key=["a"] * (3 * count),
        annotation_id=[f"row-{n}" for n in range(3 * count)],
        kind=[kind for kind in kinds for _ in range(count)],
        role=[role for role in ("alt", "category", "phrase") for _ in range(count)],
        text=WORDS * 3,
        box=[None] * count + BOXES * 2,
        score=[None, 0.5, 1e38] * count,
        source=[MARKUP, QUOTES, "yolo"] * count,
        model=MARKUP,
        revision=QUOTES,
    )
    picture = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(picture, "PNG")
    pixels = {"a": picture.getvalue(), "lost": b"no picture"}
    put_shard(place, 0, table, rows, pixels, against=WORDS * 3)
    return place


def put_shard(place: Target, shard: int, images_table: pa.Table, claims: pa.Table, data, **verdict):
    """Writes one shard with those bytes; columns in `verdict` make every row a rejected one."""
    annotations = verdicts(claims, images_table)
    if verdict:
        count = annotations.num_rows
        given = {"status": ["rejected"] * count, "rule": ["a_rule"] * count, **verdict}
        for name, values in given.items():
            at = annotations.schema.get_field_index(name)
            column = pa.array(values, pa.string())
            if pa.types.is_dictionary(annotations.schema.field(name).type):
                column = column.dictionary_encode()
            annotations = annotations.set_column(at, annotations.schema.field(name), column)
    sources = annotations["source"].to_pylist()
    counts = {name: sources.count(name) for name in set(sources)}
    expected = Expected(images_table.num_rows, counts)
    rules = {"a_rule": [len(sources), annotations["status"].to_pylist().count("rejected")]}
    return write_shard(place, shard, images_table, annotations, data, expected, rules=rules)
