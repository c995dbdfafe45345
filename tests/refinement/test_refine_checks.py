from engine.config import parse_config
from engine.dataset import DATASET
from engine.refine_checks import refine_checks


def checks(tmp_path, **settings):
    raw = {
        "source": {"uri": "synthetic", "world": "plain", "num_images": 4, "noise": 0.3},
        "output": {"uri": str(tmp_path / "out")},
        **settings,
    }
    return {check.what: check for check in refine_checks(parse_config(raw, [], "config"))}


def test_training_of_the_datasets_own_model_needs_the_packages_alone(tmp_path):
    found = checks(tmp_path, refine={"init": {"preset": "tiny"}})
    assert {"training: package accelerate", "training: package peft"} <= found.keys()
    assert not [what for what in found if what.startswith("predictor")]
    assert all(check.ok for check in found.values())


def test_model_that_is_not_there_is_told_with_what_mends_it(tmp_path):
    found = checks(tmp_path, model=str(tmp_path / "nowhere"), refine={"rounds": 1})
    [missing] = [check for check in found.values() if not check.ok]
    assert missing.what.startswith("predictor florence2: model folder")
    assert "hub id" in missing.detail


def test_rounds_without_a_training_ask_for_none_of_its_packages(tmp_path):
    refine = {"train": None, "predictor": {"kind": "null"}}
    found = checks(tmp_path, refine=refine)
    assert not [what for what in found if what.startswith("training")]


def test_dataset_that_is_refined_in_place_is_no_source_of_images(tmp_path):
    place = tmp_path / "dataset"
    place.mkdir()
    (place / DATASET).write_text("{}")
    found = checks(tmp_path, source={"uri": str(place)}, refine={"rounds": 1})
    assert found[f"dataset {place}"].ok
    assert f"source {place}" not in found


def test_where_pairs_and_checkpoints_go_is_told_and_asked_for_beside_a_bucket(tmp_path):
    what = "folder of pairs and checkpoints"
    assert checks(tmp_path, refine={"rounds": 1})[what].detail == str(tmp_path / "out/_refine")
    bucket = {"uri": "s3://far/out", "endpoint": "http://127.0.0.1:9", "region": "us-east-1"}
    asked = checks(tmp_path, refine={"rounds": 1}, output=bucket)[what]
    assert not asked.ok
    assert "refine.folder is missing: s3://far/out is a bucket" in asked.detail
