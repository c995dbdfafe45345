"""What the report counts, checked against counting by hand, and what it does with hostile input."""

import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.compose import compose
from engine.config import parse_config
from engine.errors import ConfigError, ShardError
from engine.job import Observer
from engine.reading import read_tables
from engine.report import write_report
from engine.report.bins import Histogram, Range, choose_bins
from engine.report.charts import histogram
from engine.report.counts import count_version
from engine.report.markup import measure, number, plain, said, share, text
from engine.report.second import Sample, Stratum, look_again
from engine.report.tally import Tally
from engine.run import annotate
from engine.schema import claims
from engine.source.filesystem import open_location
from tests.hostile_rows import MARKUP, WORDS, hostile_dataset, put_shard
from tests.judged import PIXELS, filter_version, put
from tests.shards import FAILED, VERSION, commit, dataset, images

INF, NAN = float("inf"), float("nan")
VOID = {"meta", "link", "img", "input"}


class Page(HTMLParser):
    """The elements and words of a page; fails where elements do not close in order."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(Path(path).read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def said(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A finished run over drawn scenes, in three shards, with rows kept and rejected."""
    out = tmp_path_factory.mktemp("scenes") / "out"
    raw = {
        "source": {"uri": "synthetic", "num_images": 5, "shard_size": 2},
        "output": {"uri": str(out)},
        "specialists": [{"kind": "null"}],
        "rules": [{"rule": "min_score", "limits": {"*": 0.5}}],
        "runner": {"kind": "serial"},
    }
    annotate(compose(parse_config(raw, (), "test")), Observer())
    return open_location(str(out))


def report(output, version=None, **options):
    path = write_report(output, version, **options)
    return Page(path), Path(path)


def test_a_dataset_without_shards_is_reported_as_unfinished(tmp_path):
    page, _ = report(dataset(tmp_path, ["a"]).output)
    assert "Not finished: 0 of 1 shards are counted here." in page.said
    assert "no image to show" in page.said


def test_a_shard_without_rows_is_reported(tmp_path):
    place = dataset(tmp_path, ["a"])
    commit(place, 0, images("a"))
    page, _ = report(place.output)
    assert "no rules" not in page.said  # one judged, and rejected nothing
    assert "Rejected nothing: not_kept (0 judged)" in page.said


def test_the_report_lies_beside_the_runs_other_papers(scenes):
    _, path = report(scenes)
    assert path == Path(scenes.root) / "_run" / "reports" / "round-0.html"


def test_counts_are_those_of_the_tables(scenes):
    rows = [row for _, _, table in read_tables(scenes, VERSION) for row in table.to_pylist()]
    counts = count_version(scenes, VERSION)
    names = ("kind", "role", "source", "status", "rule")
    assert counts.rows == Counter(tuple(row[name] for name in names) for row in rows)
    assert counts.num_rows == len(rows) > 0
    assert counts.images == {"ok": 5}
    classes = Counter(row["text"] for row in rows if row["role"] == "category")
    found = counts.classes.top(1_000)
    assert {e["text"]: e["kept"] + e["rejected"] + e["superseded"] for e in found} == classes
    rejected = [row for row in rows if row["status"] == "rejected"]
    assert counts.rules["min_score"].rejected == len(rejected) > 0
    measured = [row["measured"] for row in rejected]
    seen = counts.rules["min_score"].measured
    assert (seen.low, seen.high) == (min(measured), max(measured))
    assert counts.rules["min_score"].limits.top(9) == [{"limit": 0.5, "rejected": len(rejected)}]


def test_a_histogram_holds_what_was_measured_bin_by_bin(scenes):
    counts = count_version(scenes, VERSION)
    second = look_again(scenes, VERSION, counts)
    measured = np.array(
        [
            row["measured"]
            for _, _, table in read_tables(scenes, VERSION)
            for row in table.to_pylist()
            if row["rule"] == "min_score"
        ]
    )
    bins = second.rules["min_score"]
    expected, _ = np.histogram(measured, bins.edges)
    assert bins.counts[""].tolist() == expected.tolist()
    assert bins.counts[""].sum() == len(measured)


def test_the_page_tells_the_numbers_it_counted(scenes):
    counts = count_version(scenes, VERSION)
    page, _ = report(scenes)
    assert f"{counts.rules['min_score'].rejected:,} rejected of" in page.said
    assert "limit 0.5" in page.said
    assert f"{counts.num_rows:,} rows" in page.said
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 5
    assert all(attrs["src"].startswith("data:image/jpeg;base64,") for attrs in pictures)


def test_the_same_dataset_and_seed_give_the_same_page(scenes):
    first = report(scenes)[1].read_bytes()
    assert report(scenes)[1].read_bytes() == first
    few = [report(scenes, num_photos=1, seed=seed)[1].read_bytes() for seed in range(8)]
    assert len(set(few)) > 1


def test_failures_are_counted_with_examples(tmp_path):
    keys = [f"k{n}" for n in range(5)]
    place = dataset(tmp_path, keys)
    late = {"stage": "annotate", "source": "yolo", "cause": "timeout", "message": "late"}
    failures = [[*FAILED, late], FAILED, FAILED, FAILED, None]
    table = images(*keys, status=["failed"] * 4 + ["ok"], failures=failures)
    commit(place, 0, table)
    counts = count_version(place.output, VERSION)
    decode = counts.failures["decode", None, "corrupt"]
    assert (decode.count, [e["image_key"] for e in decode.examples]) == (4, ["k0", "k1", "k2"])
    assert counts.failures["annotate", "yolo", "timeout"].count == 1
    assert "annotate / yolo" in report(place.output)[0].said


def test_a_version_without_pixels_shows_those_of_its_parent(tmp_path):
    place = dataset(tmp_path, ["a", "b"])
    rows = claims(
        image_key=["a"], kind="region", role="category", text=["x"], box=[[0, 0, 4, 4]], source="y"
    )
    table = images("a", "b", width=[8, 6], height=[6, 8])
    put(place, 0, table, rows, {key: PIXELS[key] for key in "ab"})
    filter_version(place)
    page, path = report(place.output)
    assert path.name == "round-0.filter-1.html"
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 2
    assert "made by filter , from round-0" in page.said
    assert report(place.output, VERSION)[1].name == "round-0.html"


def test_labels_without_pixels_are_reported_all_the_same(tmp_path):
    place = dataset(tmp_path, ["a"], pixels=False)
    rows = claims(image_key=["a"], kind="text", role="alt", text=["no"], source="y")
    commit(place, 0, images("a"), rows)
    page, _ = report(place.output)
    assert "no pixels of this image in the dataset" in page.said
    assert "not_kept" in page.said


def test_terms_that_rows_lost_against_are_counted_and_ids_are_not(tmp_path):
    place = hostile_dataset(tmp_path)
    terms = count_version(place.output, VERSION).rules["a_rule"].terms.top(100)
    assert {entry["against"]: entry["rejected"] for entry in terms} == Counter(
        word[:200] for word in WORDS for _ in range(3)
    )


def test_a_row_that_won_is_no_term(tmp_path):
    place = dataset(tmp_path, ["a"])
    rows = claims(image_key=["a"] * 2, kind="text", role="alt", text=["x", "y"], source="y")
    put_shard(place, 0, images("a"), rows, {"a": PIXELS["a"]}, against=["0" * 20, "they"])
    terms = count_version(place.output, VERSION).rules["a_rule"].terms.top(9)
    assert terms == [{"against": "they", "rejected": 1}]


def test_hostile_words_become_no_element_and_hide_nothing(tmp_path):
    place = hostile_dataset(tmp_path)
    page, path = report(place.output)
    harmless = {"html", "head", "meta", "link", "title", "style", "body", "header", "main", "nav"}
    harmless |= {"footer", "section", "article", "div", "span", "p", "b", "i", "a", "h1", "h2"}
    harmless |= {"h3", "bdi", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "svg", "img"}
    harmless |= {"rect", "line", "text", "figure", "figcaption", "details", "summary", "pre"}
    harmless |= {"input", "label"}
    assert {tag for tag, _ in page.tags} <= harmless
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith(("#", "data:"))
    assert MARKUP in page.said  # shown as it is
    raw = path.read_text(encoding="utf-8")
    assert not set(raw) & set("\x00\x1b\x7f\x85\u202e\u2066\u200b\ufeff\u2028")
    assert "U+202E" in raw
    assert len(raw) < 300_000
    assert "(1,000,000 characters)" in page.said


def test_a_version_that_is_not_there_is_refused(scenes):
    with pytest.raises(ConfigError, match="no label version 'round-7'; there are: round-0"):
        write_report(scenes, "round-7")


def test_a_version_named_like_a_path_is_refused(tmp_path):
    place = dataset(tmp_path, ["a"])
    root = Path(place.output.root) / "dataset.json"
    content = json.loads(root.read_text())
    content["versions"]["../../x"] = {"parent": None, "made_by": "me"}
    root.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"'../../x', which is no name of a folder"):
        write_report(place.output, "../../x")


def test_a_place_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no dataset.json there"):
        write_report(open_location(str(tmp_path)))


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and no more"])
def test_a_damaged_table_is_one_clear_error(tmp_path, content):
    place = dataset(tmp_path, ["a"])
    commit(place, 0, images("a"))
    table = Path(place.output.root) / VERSION / "000000.images.parquet"
    table.unlink() if content is None else table.write_bytes(content)
    with pytest.raises(ShardError, match=r"000000.images.parquet is gone or damaged"):
        write_report(place.output)


def ones(words):
    return pa.table({"word": pa.array(words, pa.string()), "n": [1] * len(words)})


def test_a_tally_of_nothing_is_empty():
    assert Tally(["word"], ["n"]).top(3) == []
    assert len(Tally(["word"], ["n"])) == 0


words = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=30), max_size=12)


@given(words)
def test_a_tally_counts_as_a_counter_does(batches):
    tally, counter = Tally(["word"], ["n"], cap=8), Counter()
    for batch in batches:
        tally.add(ones(batch))
        counter.update(batch)
    assert {entry["word"]: entry["n"] for entry in tally.top(99)} == counter
    assert tally.error == 0


@given(words)
def test_a_tally_past_its_cap_is_low_by_no_more_than_it_says(batches):
    tally, counter = Tally(["word"], ["n"], cap=2), Counter()
    for batch in batches:
        tally.add(ones(batch))
        counter.update(batch)
    assert len(tally) <= 2
    for entry in tally.top(99):
        assert counter[entry["word"]] - tally.error <= entry["n"] <= counter[entry["word"]]


finite = st.floats(-1e6, 1e6, width=32)


@given(st.lists(finite, min_size=1), st.lists(finite, max_size=3))
def test_bins_hold_every_number_and_show_every_limit(numbers, limits):
    seen = Range()
    values = np.array(numbers, np.float32)
    seen.add(values[: len(values) // 2])
    seen.add(values[len(values) // 2 :])
    bins = choose_bins(seen, limits)
    bins.add(values)
    assert bins.counts[""].sum() == len(values)
    assert 1 <= bins.num_bins <= 60
    assert (np.diff(bins.edges) > 0).all()
    for shown in (*values.tolist(), *limits):
        slack = 1e-6 + 1e-6 * abs(shown)
        assert bins.edges[0] - slack <= shown <= bins.edges[-1] + slack


@pytest.mark.parametrize(
    ("numbers", "limits", "first", "last", "logarithmic"),
    [
        pytest.param([0.06, 0.14], [0.15], 0.06, 0.16, False, id="round-edges"),
        pytest.param([3, 5, 9], [2], 1.5, 9.5, False, id="whole-numbers-in-the-middle"),
        pytest.param([0.1, 50_000], [20], 0.1, 100_000, True, id="decades"),
        pytest.param([0, 0, 0], [], -0.5, 0.5, False, id="all-equal"),
    ],
)
def test_bins_begin_and_end_at_round_numbers(numbers, limits, first, last, logarithmic):
    seen = Range()
    seen.add(np.array(numbers, np.float64))
    bins = choose_bins(seen, limits)
    assert (bins.edges[0], bins.edges[-1]) == (pytest.approx(first), pytest.approx(last))
    assert bins.logarithmic == logarithmic


def test_numbers_that_are_none_are_counted_and_not_shown():
    seen = Range()
    seen.add(np.array([NAN, INF, 1.0, -INF]))
    assert (seen.num_finite, seen.num_other, seen.low, seen.high) == (1, 3, 1.0, 1.0)
    only = Range()
    only.add(np.array([NAN]))
    assert choose_bins(only, [0.5]) is None


def test_a_limit_is_drawn_at_its_place():
    bins = Histogram(np.linspace(0, 1, 11))
    bins.add(np.array([0.05, 0.1]))
    drawn = histogram(bins, what="measured", limits=[0.25]).html
    assert 'x1="25.000" x2="25.000"' in drawn
    assert "limit 0.25" in drawn
    assert drawn.count("<rect") == 2


def test_a_sample_takes_of_every_stratum_in_turn_and_none_twice():
    sample, rng = Sample(), np.random.default_rng(0)
    keys = pa.array([f"k{n}" for n in range(100)])
    many, few = Stratum("rule", "many"), Stratum("rule", "a_few")
    for start in range(0, 100, 10):
        sample.add(many, start, keys[start : start + 10], rng.random(10))
    sample.add(few, 0, keys[:2], np.array([0.5, 0.1]))
    taken = sample.take(8)
    assert len({key for _, key, _ in taken}) == 8
    assert [stratum for _, _, stratum in taken[:4]] == [few, many, few, many]
    assert [key for _, key, stratum in taken if stratum == few] == ["k1", "k0"]
    other = Stratum("source", "yolo")
    sample.add(other, 0, keys[:3], np.array([0.5, 0.1, 0.9]))
    everything = sample.take(1_000)
    assert len({key for _, key, _ in everything if key in ("k0", "k1", "k2")}) == 3
    assert [stratum for shard, key, stratum in everything if (shard, key) == (0, "k1")] == [few]
    assert sample.take(0) == Sample().take(5) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "\u2013"), (12345, "12,345"), (0.25, "0.25"), (1234567.5, "1,234,568"), (NAN, "nan")],
)
def test_numbers_are_written_as_people_read_them(value, shown):
    assert number(value) == shown


def test_a_float32_is_shown_as_it_was_written():
    assert measure(float(np.float32(0.15))) == "0.15"


def test_a_share_is_never_rounded_to_nothing_or_to_all():
    assert [share(n, 100_000) for n in (0, 1, 50_000, 99_999, 100_000)] == [
        *("0.0%", "< 0.1%", "50.0%", "> 99.9%", "100.0%")
    ]
    assert share(0, 0) == "\u2013"


@given(st.text())
def test_text_from_data_stays_text(value):
    for shown in (text(value).html, said(value).html):
        assert "<" not in shown.replace("<bdi>", "").replace("</bdi>", "").replace(
            '<i class="dim">', ""
        ).replace("</i>", "").replace('<span class="dim">', "").replace("</span>", "")
    assert "\n" not in plain(value)
