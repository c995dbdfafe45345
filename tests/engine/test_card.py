"""The card of a dataset: its own facts alone, in the hub's words, with examples that run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from engine.card import write_card
from engine.card_head import hub_licence
from engine.errors import ConfigError
from engine.schema import claims
from tests.hostile_rows import hostile_dataset
from tests.judged import PIXELS, filter_version, put
from tests.shards import FAILED, dataset, images


@pytest.fixture
def place(tmp_path):
    """Three images of a source under three licences (one not said), one that failed, five rows."""
    made = dataset(tmp_path, ["a", "b"], ["c", "d"])
    rows = claims(
        image_key=["a", "a", "a", "b", "b"],
        kind=["region", "region", "text", "region", "grounding"],
        role=["category", "category", "brief", "category", "phrase"],
        text=["dog", "no", "a dog", "cat", "a cat"],
        box=[[0, 0, 4, 4], [0, 0, 4, 4], None, [0, 0, 2, 2], [0, 0, 2, 2]],
        source=["yolo", "yolo", "people", "yolo", "matcher"],
        model=["yolo11n", "yolo11n", None, "yolo11n", None],
        revision=["abc123", "abc123", None, "abc123", None],
        human=[False, False, True, False, False],
    )
    licences = ["http://creativecommons.org/licenses/by/2.0/", None]
    put(made, 0, images("a", "b", licence=licences), rows, {k: PIXELS[k] for k in "ab"})
    states = {"status": ["ok", "failed"], "failures": [None, FAILED]}
    states["licence"] = ["my own", "gone with the failed one"]
    row = claims(image_key=["c"], kind="text", role="alt", text=["no"], source="yolo")
    put(made, 1, images("c", "d", **states), row, {"c": PIXELS["c"]})
    return made


def card(place, version=None):
    write_card(place.output, version)
    text = (Path(place.output.root) / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def table(body, title):
    """The rows of the table below a heading, as lists of cells."""
    part = body.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_dataset_without_shards_has_a_card_that_says_so(tmp_path):
    head, body = card(dataset(tmp_path, ["a"]))
    assert head["license"] == ["unknown"]
    assert "configs" not in head
    assert "There is no finished shard yet." in body
    assert "0 of 1 shards are counted here" in body


def test_the_head_holds_what_the_hub_knows(place):
    head, _ = card(place)
    assert set(head["license"]) == {"cc-by-2.0", "other", "unknown"}
    assert head["size_categories"] == ["n<1K"]
    wanted = {"image-to-text", "object-detection", "zero-shot-object-detection"}
    assert set(head["task_categories"]) == wanted


def test_every_licence_is_counted_and_an_unknown_one_is_called_so(place):
    _, body = card(place)
    found = dict(table(body, "Licences"))
    assert found == {
        "`http://creativecommons.org/licenses/by/2.0/`": "1",
        "my own": "1",
        "unknown": "1",
    }
    assert "1 of 3 images are of unknown licence" in body


def test_rows_models_rules_and_limits_are_told_as_counted(place):
    _, body = card(place)
    assert ["region", "category", "yolo", "2", "1", "0"] in table(body, "What is in it")
    assert ["yolo", "yolo11n", "abc123", "2", "3"] in table(body, "Who said it")
    assert ["people", "people", "", "1", "1"] in table(body, "Who said it")
    assert ["matcher", "unknown", "unknown", "1", "1"] in table(body, "Who said it")
    assert ["cat", "1"] in table(body, "Classes")
    assert "no" not in [name for name, _ in table(body, "Classes")]
    assert "3 of 4 kept rows were said by models" in body
    assert "Left out of 4 images: 1 failed" in body


def test_the_rules_of_the_run_stand_with_their_limits(place):
    root = Path(place.output.root) / "dataset.json"
    content = json.loads(root.read_text())
    content["identity"]["rules"] = [{"rule": "min_score", "limits": {"yolo": 0.25}}]
    root.write_text(json.dumps(content))
    _, body = card(place)
    assert table(body, "Rules")[0][:2] == ["min_score", '`limits: {"yolo": 0.25}`']
    assert table(body, "Rules")[1][::3] == ["not_kept", "2"]


def test_a_place_on_a_disk_is_not_given_away(place):
    root = Path(place.output.root) / "dataset.json"
    content = json.loads(root.read_text())
    content["source"]["uri"] = "/secret/disk/photos"
    root.write_text(json.dumps(content))
    text = card(place)[1]
    assert "secret" not in text
    assert table(text, "Where the images are from")[0][0] == "photos"


def test_the_same_dataset_gives_the_same_card(place):
    assert card(place) == card(place)


@pytest.mark.slow
@pytest.mark.parametrize("filtered", [False, True], ids=["with-pixels", "json-only"])
def test_the_examples_in_the_card_run(place, filtered):
    if filtered:
        filter_version(place)
    _, body = card(place)
    blocks = [part.split("```")[0] for part in body.split("```python\n")[1:]]
    assert len(blocks) == 3
    # one process, for it imports much, in which no block sees another's names
    script = f"import sys; sys.path.insert(0, {str(Path.cwd())!r})\n"
    script += f"for block in {blocks!r}:\n    exec(block, {{}})\n    print('end of block')"
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=place.output.root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    *said, rest = run.stdout.split("end of block\n")
    assert (len(said), rest) == (3, "")
    assert all(said)
    assert ("whose json is that version's" in body) == filtered


def test_datasets_reads_the_tables_that_the_head_names(place, tmp_path):
    import datasets

    head, _ = card(place)
    sizes = {}
    for entry in head["configs"]:
        files = [str(f) for f in sorted(Path(place.output.root).glob(entry["data_files"]))]
        found = datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache"))
        sizes[entry["config_name"]] = found.num_rows
    assert sizes == {"annotations": 6, "images": 4}


def test_a_card_that_somebody_worked_on_is_not_overwritten(place):
    write_card(place.output)
    path = Path(place.output.root) / "README.md"
    path.write_text(path.read_text() + "\nMy own words.\n")
    with pytest.raises(ConfigError, match=r"README.md is there and is not as it was written here"):
        write_card(place.output)
    assert "My own words." in path.read_text()


def test_hostile_words_break_neither_head_nor_tables(tmp_path):
    place = hostile_dataset(tmp_path)
    head, body = card(place)
    assert set(head["license"]) <= {"other", "unknown"}
    for title, width in (("What is in it", 6), ("Who said it", 5), ("Licences", 2)):
        found = table(body, title)
        assert found
        assert {len(row) for row in found} == {width}
    outside_code = "".join(body.split("`")[::2])
    assert "<script" not in outside_code
    assert "\u202e" not in body
    assert len(body) < 100_000


@pytest.mark.parametrize(
    ("licence", "name"),
    [
        (None, "unknown"),
        (" ", "unknown"),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/deed.en", "cc-by-nc-sa-4.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("CC-BY-4.0", "cc-by-4.0"),
        ("MIT", "mit"),
        ("ask me", "other"),
        ("license: mit\n- x", "other"),
    ],
)
def test_a_licence_is_named_as_the_hub_does_or_other(licence, name):
    assert hub_licence(licence) == name
