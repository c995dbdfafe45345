"""SIGKILL of `fld refine` in each of its steps, then the same command: the same labels.

Each kill comes right after a rename of the step, where the process is held until it is dead.
"""

import json
import os
import shutil

import pytest

from tests.faults.commands import ROOT, succeed, write_config
from tests.refinement.rounds_runs import current, files_of, settings, stored_rounds

pytestmark = [pytest.mark.slow]

HELD = str(ROOT / "tests" / "refinement" / "held")
PREDICTED = (r"/predictions/round-0/_done/000001\.json$", "")
RELABELLED = (r"/out/round-1/_done/000001\.json$", "")
MEASURED = (r"/out/dataset\.json$", r'"round-1".*"finished": true')
ACCEPTED = (r"/out/dataset\.json$", r'"current": "round-1"')
PAIRED = (r"/round-1/pairs/000001\.arrow$", "")
TRAINED = (r"/fold-0/checkpoint-000002$", "")


class Killing:
    """A config, and the commands that run it in folders of their own."""

    def __init__(self, shell, site, folder, noisy_labels, **sections):
        self.shell, self.site, self.folder = shell, site, folder
        self.labels = noisy_labels
        config = settings(folder, **sections)
        del config["output"], config["source"]
        self.config = write_config(folder / "refine.yaml", source={"uri": "given"}, **config)

    def start(self, out, **variables):
        path = os.pathsep.join([HELD, str(self.site)])
        variables = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables}
        return self.shell.start("refine", self.config, f"source.uri={out}", variables=variables)

    def place(self, name):
        return shutil.copytree(self.labels, self.folder / name / "out")

    def undisturbed(self):
        out = self.place("undisturbed")
        succeed(self.start(out))
        return out

    def killed(self, *moments):
        """Killed at each of the moments, one after the other, and then brought to its end."""
        out = self.place("killed")
        for number, (path, content) in enumerate(moments):
            held = self.folder / f"held-{number}"
            command = self.start(
                out,
                FLD_TEST_HOLD_AT=path,
                FLD_TEST_HOLD_HAS=content,
                FLD_TEST_HELD=str(held),
            )
            assert command.wait_until(held.exists), f"{path} is never met: {command.said}"
            command.kill()
            assert not stored_rounds(out)[1:]
        succeed(self.start(out))
        return out


def check_same(killed, undisturbed):
    assert current(killed) == current(undisturbed) == "round-1"
    ours, theirs = (files_of(out / "round-1") for out in (killed, undisturbed))
    assert ours == theirs
    assert len(ours) == 12
    rounds = [stored_rounds(out) for out in (killed, undisturbed)]
    for each in (entry for series in rounds for entry in series):
        del each["cost"], each["model"]
    assert rounds[0] == rounds[1]
    for name in ("plan.parquet", "dataset.json"):
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.fixture(scope="module")
def undisturbed(shell, known_oracle, noisy_labels, tmp_path_factory):
    """A round of the oracle that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return Killing(shell, known_oracle, folder, noisy_labels).undisturbed()


def test_killed_predicting_relabelling_and_accepting(
    shell, known_oracle, noisy_labels, undisturbed, tmp_path
):
    killing = Killing(shell, known_oracle, tmp_path, noisy_labels)
    check_same(killing.killed(PREDICTED, RELABELLED, MEASURED, ACCEPTED), undisturbed)


def test_killed_pairing_and_training(shell, known_oracle, noisy_labels, untrained, tmp_path):
    training = {"steps": 4, "batch_size": 4, "save_every": 2, "validate_every": None, "warmup": 0}
    refine = {
        "pairs": {"tasks": {"od": 1}},
        "train": training,
        "predictor": {"kind": "oracle"},
    }
    killing = Killing(
        shell, known_oracle, tmp_path, noisy_labels, refine=refine, model=str(untrained)
    )
    undisturbed = killing.undisturbed()
    killed = killing.killed(PAIRED, TRAINED)
    check_same(killed, undisturbed)
    model = "_refine/round-1/fold-0/model"
    assert files_of(killed / model) == files_of(undisturbed / model)
    assert (killed / model / "model.safetensors").is_file()
    # what was spent before the kills is counted, though the last call trained nothing
    done = json.loads((killed / model).parent.joinpath("done.json").read_text())
    assert stored_rounds(killed)[1]["cost"]["train"] == done["seconds"] > 0
    assert json.loads((killed / "rounds.json").read_text())["model"] == str(killed / model)


@pytest.mark.ray
def test_killed_relabelling_on_ray(shell, known_oracle, noisy_labels, undisturbed, tmp_path):
    runner = {"kind": "ray", "workers": {"oracle": 1}}
    killing = Killing(shell, known_oracle, tmp_path, noisy_labels, runner=runner)
    check_same(killing.killed(RELABELLED), undisturbed)
