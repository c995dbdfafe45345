"""Pairs made on a Ray cluster, and of a dataset in a bucket, are those made here."""

from pathlib import Path

import pytest

from engine.config import RunnerConfig
from engine.source.filesystem import open_location
from tests.refinement.pair_datasets import many, paired

TASKS = {"od": 1.0, "caption": 1.0}


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.ray
def test_pairs_made_on_ray_are_the_same_bytes(tmp_path):
    place = many(tmp_path, 12)
    paired(place, tmp_path / "serial", tasks=TASKS)
    paired(place, tmp_path / "ray", tasks=TASKS, runner=RunnerConfig(kind="ray"))
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "serial")


@pytest.mark.s3
def test_pairs_of_a_bucket_are_those_of_the_same_folder(tmp_path, s3):
    place = many(tmp_path, 12)
    s3.fill("pairs", Path(place.output.root))
    _, here = paired(place, tmp_path / "here", tasks=TASKS)
    bucket = open_location("s3://pairs", endpoint=s3.endpoint, region="us-east-1")
    far_place = type("Far", (), {"output": bucket})
    _, far = paired(far_place, tmp_path / "far", tasks=TASKS)
    assert files_of(tmp_path / "far") == files_of(tmp_path / "here")
    assert far.stream(seed=1).batch(3, 20) == here.stream(seed=1).batch(3, 20)
