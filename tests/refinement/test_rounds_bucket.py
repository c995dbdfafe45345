"""A dataset in a bucket is refined there, as one in a folder is."""

import io

import pyarrow as pa
import pytest
from rich.console import Console

from engine.config import parse_config
from engine.errors import ConfigError
from engine.job import Observer
from engine.reading import read_tables
from engine.refine_commands import run_refine
from engine.source.filesystem import open_location
from tests.refinement.rounds_runs import oracle, refine_in, rows_of, settings


@pytest.fixture
def bucket(noisy, s3):
    """A copy of the noisy labels, as a config's `source` names it."""
    s3.fill("rounds", noisy)
    return {"uri": "s3://rounds", "endpoint": s3.endpoint, "region": "us-east-1"}


@pytest.mark.s3
def test_a_round_in_a_bucket_gives_the_rows_of_one_in_a_folder(bucket, noisy, tmp_path):
    def refine_there(**refine):
        config = settings(noisy, refine=oracle() | refine) | {"source": bucket}
        del config["output"]
        job = parse_config(config, (), "test")
        return run_refine(job, Observer(), Console(file=io.StringIO()))

    with pytest.raises(ConfigError, match=r"refine\.folder is missing: s3://rounds is a bucket"):
        refine_there()
    series = refine_there(folder=str(tmp_path / "work"))
    refine_in(noisy)
    far = open_location(bucket["uri"], endpoint=bucket["endpoint"], region=bucket["region"])
    rows = [rows for _, _, rows in read_tables(far, "round-1")]
    assert pa.concat_tables(rows).unify_dictionaries().equals(rows_of(noisy, "round-1"))
    assert series.last.version == "round-1"
    assert far.exists("rounds.json")
    assert far.exists("_refine/round-1/ledger/000000.parquet")
    assert (tmp_path / "work/round-1/predictions/dataset.json").exists()
    again = refine_there(folder=str(tmp_path / "elsewhere"))  # where it works makes no other series
    assert again == series
