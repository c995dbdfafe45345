"""Strict configuration: every message, overrides, and which changes make another run.

That the command line prints these as one line is tested in test_cli.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import yaml

from engine.config import build, difference, load_config, nearest, parse_config
from engine.errors import ConfigError

MINIMAL = {"source": {"uri": "photos"}, "output": {"uri": "out"}}


def parse(*overrides, **sections):
    return parse_config({**MINIMAL, **sections}, overrides, "a.yaml")


def test_config_needs_a_source_and_an_output_and_has_a_default_for_all_else():
    config = parse()
    assert (config.source.kind, config.source.shard_size, config.seed) == ("auto", 256, 0)
    assert config.specialists == config.rules == []
    assert (config.runner.kind, config.runner.address) == ("ray", None)


def test_a_filter_that_names_no_output_writes_beside_its_source():
    config = parse_config({"source": {"uri": "s3://b/a", "endpoint": "http://h:1"}}, (), "a.yaml")
    assert (config.output.uri, config.output.endpoint) == ("s3://b/a", "http://h:1")
    asked = {"source": {"uri": "a"}, "output": {"pixels": "copy"}}
    assert parse_config(asked, (), "a.yaml").output.uri == "a"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param({}, "^a.yaml: source is missing$", id="no-source"),
        pytest.param(
            {"source": {"uri": "a"}, "specialists": [{"kind": "null"}]},
            "^a.yaml: output is missing$",
            id="no-output",
        ),
        pytest.param(
            {"source": {}, "output": {"uri": "b"}}, "source has no uri; give a folder", id="no-uri"
        ),
        pytest.param(
            {**MINIMAL, "rule": []},
            "rule is not a key; did you mean 'rules'[?] known: gold, limits, model, output, ",
            id="unknown-section",
        ),
        pytest.param(
            {**MINIMAL, "runner": {"batchsize": 4}},
            "runner.batchsize is not a key; did you mean 'batch_size'[?] known: address, ",
            id="unknown-key",
        ),
        pytest.param(
            {**MINIMAL, "source": {"uri": "a", "shard_size": "many"}},
            "source.shard_size: .*valid integer.*; found 'many'$",
            id="wrong-type",
        ),
        pytest.param(
            {**MINIMAL, "source": {"uri": "a", "shard_size": 0}},
            r"source.shard_size: .*greater than or equal to 1; found 0$",
            id="out-of-range",
        ),
        pytest.param(
            {**MINIMAL, "output": {"uri": "b", "pixels": "some"}},
            "output.pixels: .*'copy' or 'none'; found 'some'$",
            id="not-a-choice",
        ),
        pytest.param(
            {**MINIMAL, "runner": {"workers": {"yolo": "many"}}},
            r"^a.yaml: runner.workers.yolo: .*'auto'; found 'many'$",
            id="workers-are-a-number-or-auto",
        ),
        pytest.param(
            {**MINIMAL, "runner": {"workers": {"yolo": 0}}},
            "runner.workers.yolo: .*greater than or equal to 1 or 'auto'; found 0$",
            id="no-workers-would-wait-for-ever",
        ),
        pytest.param(
            {**MINIMAL, "runner": {"threads": {"yolo": 0}}},
            "runner.threads.yolo: .*greater than or equal to 1; found 0$",
            id="no-threads",
        ),
        pytest.param(
            {**MINIMAL, "specialists": {}}, r"specialists: .*a list; found \{\}", id="no-list"
        ),
        pytest.param(
            {**MINIMAL, "rules": ["x"]}, r"rules\[0\]: .*a mapping; found 'x'", id="entry"
        ),
        pytest.param(
            {**MINIMAL, "specialists": [{"name": "a"}]},
            r"specialists\[0\].kind is missing; `fld specialists` lists what there is",
            id="no-kind",
        ),
        pytest.param(
            {**MINIMAL, "rules": [{"rule": 3}]},
            r"rules\[0\].rule is missing; `fld rules` lists what there is",
            id="no-rule",
        ),
        pytest.param(
            {**MINIMAL, "specialists": [{"kind": "yolo"}, {"kind": "yolo"}]},
            "two are named 'yolo'; give one of them another `name`",
            id="same-name",
        ),
        pytest.param(
            {**MINIMAL, "specialists": [{"kind": "yolo", "name": "a/b"}]},
            "name 'a/b' may hold letters, digits, '_', '-' and '.' only",
            id="odd-name",
        ),
        pytest.param(
            {**MINIMAL, "source": {"uri": " "}}, "source.uri is empty; give a folder", id="blank"
        ),
        pytest.param(
            {**MINIMAL, "source": {"uri": "x" * 200, "kind": ["x" * 200]}},
            r"found \['x{75}\.\.\.$",
            id="a-long-value-is-cut",
        ),
    ],
)
def test_config_says_what_is_wrong_and_where(raw, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(raw, [], "a.yaml")


@pytest.mark.parametrize("place", ["source", "output"])
def test_config_refuses_credentials_in_a_uri_and_does_not_repeat_them(place):
    raw = {**MINIMAL, place: {"uri": "s3://AKIA:s3cr3t@bucket/photos"}}
    with pytest.raises(ConfigError, match=f"{place}.uri holds a key or password") as caught:
        parse_config(raw, [], "a.yaml")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("source: [", r"broken.yaml: not valid YAML: while parsing", id="broken"),
        pytest.param("- a\n- b\n", "holds list, wanted a mapping with `source:`", id="list"),
        pytest.param("", "holds NoneType, wanted a mapping", id="empty"),
        pytest.param("a: \x01", "broken.yaml: not valid YAML", id="control-character"),
    ],
)
def test_load_config_refuses_a_file_that_is_no_mapping(tmp_path, content, message):
    path = tmp_path / "broken.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_load_config_refuses_what_is_no_text_or_no_file(tmp_path):
    with pytest.raises(ConfigError, match="no such file; `fld init` writes one to start from"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read: .*directory"):
        load_config(tmp_path)
    (tmp_path / "utf16.yaml").write_text("source: x", encoding="utf-16")
    with pytest.raises(ConfigError, match=r"utf16.yaml: cannot be read: .*utf-8"):
        load_config(tmp_path / "utf16.yaml")


def test_load_config_without_a_file_takes_overrides_alone():
    config = load_config(None, ["source.uri=photos", "output.uri=out"])
    assert (config.source.uri, config.output.uri) == ("photos", "out")


def test_overrides_reach_into_mappings_and_lists():
    config = parse(
        "source.shard_size=8",
        "runner.workers.yolo=auto",
        "rules.0.limits.yolo/person=0.4",
        "rules.1={rule: orphan, alarm_share: 1}",
        "limits={max_pixels: 100}",
        "output.region=null",
        rules=[{"rule": "min_score"}, {"rule": "min_area"}],
    )
    assert config.source.shard_size == 8
    assert config.runner.workers == {"yolo": "auto"}
    assert config.rules[0] == {"rule": "min_score", "limits": {"yolo/person": 0.4}}
    assert config.rules[1] == {"rule": "orphan", "alarm_share": 1}
    assert config.limits.max_pixels == 100


def test_the_last_of_two_overrides_holds_and_a_value_may_hold_an_equals_sign():
    config = parse("source.uri=a", "source.uri=a=b")
    assert config.source.uri == "a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("seed", "override 'seed': wanted key.subkey=value", id="no-value"),
        pytest.param("=3", "override '=3': wanted key.subkey=value", id="no-key"),
        pytest.param("seed=[", "the value is not valid YAML", id="broken-value"),
        pytest.param(
            "rules.1.alarm_share=1",
            "'1' is no index of a list of 1; allowed 0 to 0",
            id="index-too-large",
        ),
        pytest.param("rules.min_score=1", "'min_score' is no index of a list", id="no-index"),
        pytest.param("rules.-1=1", "'-1' is no index of a list", id="negative-index"),
        pytest.param("source.uri.x=1", "source.uri is a value, not a mapping", id="below-a-value"),
        pytest.param(
            "source.uri.x.y=1", "source.uri is a value, not a map", id="far-below-a-value"
        ),
        pytest.param("source.url=x", "source.url is not a key; did you mean 'uri'", id="unknown"),
        pytest.param("specialists.0.kind=yolo", "'0' is no index of a list of 0", id="no-entries"),
    ],
)
def test_a_bad_override_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        parse(override, rules=[{"rule": "min_score"}], specialists=[])


def test_an_override_leaves_the_mapping_it_was_given_alone():
    raw = {**MINIMAL, "rules": [{"rule": "min_score"}]}
    parse_config(raw, ["rules.0.limits.x=1"], "a.yaml")
    assert raw["rules"] == [{"rule": "min_score"}]


def test_the_word_null_means_the_specialist_of_that_name():
    """YAML reads `kind: null` as nothing, and nobody who writes it means that."""
    raw = yaml.safe_load("{specialists: [{kind: null}], runner: {workers: {null: 2}}}")
    config = parse(**raw)
    assert config.specialists == [{"kind": "null"}]
    assert config.runner.workers == {"null": 2}


@pytest.mark.parametrize(
    "override",
    ["runner.kind=serial", "runner.batch_size=3", "output.uri=elsewhere", "limits.max_bytes=9"],
)
def test_digest_ignores_where_and_how_a_run_runs(override):
    assert parse(override).digest() == parse().digest()


@pytest.mark.parametrize(
    "override",
    [
        "source.uri=other",
        "source.kind=images",
        "source.shard_size=8",
        "seed=1",
        "specialists.0.imgsz=320",
        "rules.0.limits.yolo=0.3",
        "rules=[]",
        "output.pixels=none",
    ],
)
def test_digest_changes_with_what_a_run_is(override):
    sections = {
        "specialists": [{"kind": "yolo"}],
        "rules": [{"rule": "min_score"}],
    }
    assert parse(override, **sections).digest() != parse(**sections).digest()


def test_digest_ignores_alarms():
    """An alarm stops a run; the option that lifts it must resume the same run."""
    calm = parse(specialists=[{"kind": "yolo"}], rules=[{"rule": "orphan"}])
    lifted = parse(
        specialists=[{"kind": "yolo", "quiet_limit": None}],
        rules=[{"rule": "orphan", "alarm_share": 1}],
    )
    assert lifted.digest() == calm.digest()


def test_digest_does_not_depend_on_the_order_of_keys():
    one = parse(rules=[{"rule": "min_score", "limits": {"a": 1, "b": 2}}])
    other = parse(rules=[{"limits": {"b": 2, "a": 1}, "rule": "min_score"}])
    assert one.digest() == other.digest()
    assert len(one.digest()) == 16


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        pytest.param({}, {}, [], id="nothing"),
        pytest.param({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 -> 2"], id="value"),
        pytest.param({"a": 1}, {}, ["a: 1 -> nothing"], id="gone"),
        pytest.param({}, {"a": "x"}, ['a: nothing -> "x"'], id="new"),
        pytest.param({"a": [1, 2]}, {"a": [1, 3]}, ["a[1]: 2 -> 3"], id="entry"),
        pytest.param({"a": [1]}, {"a": []}, ["a: [1] -> []"], id="shorter"),
        pytest.param({"a": 1, "b": 2}, {"b": 3, "a": 0}, ["a: 1 -> 0", "b: 2 -> 3"], id="order"),
    ],
)
def test_difference_names_every_place(old, new, lines):
    assert difference(old, new) == lines


def test_nearest_names_all_and_the_closest():
    assert nearest("min_scor", ["orphan", "min_score"]) == (
        "did you mean 'min_score'? known: min_score, orphan"
    )
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("zzz", []) == "known: nothing"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Options of every shape a specialist or rule has."""

    iou: float = 0.7
    languages: tuple[str, ...] = ("en",)
    limits: Mapping[str, float] = field(default_factory=dict)
    name: str
    state: object = field(init=False, repr=False, default=None)


def test_build_fills_defaults_and_keeps_types():
    built = build(Sample, {"name": "a", "languages": ["en", "de"], "iou": 1}, "rules[0]")
    assert built == Sample(name="a", languages=("en", "de"), iou=1.0, limits={})
    assert type(built.iou) is float


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({}, r"^rules\[2\].name is missing$", id="missing"),
        pytest.param(
            {"name": "a", "io": 1},
            r"^rules\[2\].io is not an option; did you mean 'iou'\? known: iou, languages, ",
            id="unknown",
        ),
        pytest.param(
            {"name": "a", "state": 1}, r"^rules\[2\].state is not an option", id="not-an-option"
        ),
        pytest.param(
            {"name": "a", "iou": "high"}, r"^rules\[2\].iou: .*number.*; found 'high'$", id="type"
        ),
        pytest.param(
            {"name": "a", "limits": {"x": "y"}}, r"^rules\[2\].limits.x: .*; found 'y'$", id="inner"
        ),
        pytest.param(
            {"name": "a", "languages": ["en", 3]},
            r"^rules\[2\].languages\[1\]: .*string; found 3$",
            id="item",
        ),
    ],
)
def test_build_names_the_option_that_is_wrong(options, message):
    with pytest.raises(ConfigError, match=message):
        build(Sample, options, "rules[2]")


def test_build_passes_the_refusal_of_the_class_itself_on():
    @dataclass(kw_only=True)
    class Picky:
        iou: float = 0.5

        def __post_init__(self) -> None:
            if self.iou > 1:
                raise ConfigError("iou is too large")

    with pytest.raises(ConfigError, match=r"^iou is too large$"):
        build(Picky, {"iou": 2}, "rules[0]")


@pytest.mark.parametrize("value", [True, "0.5"])
def test_build_does_not_guess_numbers(value):
    with pytest.raises(ConfigError, match=r"rules\[0\].iou"):
        build(Sample, {"name": "a", "iou": value}, "rules[0]")


def test_the_documented_block_of_all_sections_loads():
    block = """
    source:      {uri: s3://bucket/photos, kind: auto, shard_size: 256, endpoint: null,
                  region: null, anonymous: false}
    output:      {uri: out/, pixels: copy}
    specialists: [{kind: yolo, model: yolo11n.pt, imgsz: 640, min_score: 0.05},
                  {kind: yolo, name: yolo_b}, {kind: easyocr, languages: [en]}, {kind: composer}]
    rules:       [{rule: min_score, limits: {yolo: 0.25, "yolo/person": 0.4}},
                  {rule: duplicate_region, iou: 0.7}]
    runner:      {kind: ray, address: null, workers: {yolo: auto}, threads: {yolo: 1},
                  batch_size: 16, batch_timeout_s: 300}
    limits:      {max_pixels: 200000000}
    seed: 0
    """
    config = parse_config(yaml.safe_load(block), [], "block")
    assert [entry["kind"] for entry in config.specialists] == [
        "yolo",
        "yolo",
        "easyocr",
        "composer",
    ]
