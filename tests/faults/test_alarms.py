"""Alarms stop a run that would only produce rubbish; what is committed stays, and it can go on."""

import pytest

from tests.faults import commands
from tests.faults.commands import markers, succeed, write_config, write_photos
from tests.faults.fixtures import EITHER_RUNNER, runner_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def config(shell):
    photos = write_photos(shell.folder / "photos", [f"photo-{i:03d}.jpg" for i in range(96)])
    return write_config(
        shell.folder / "alarms.yaml",
        source={"uri": str(photos), "shard_size": 8},
        output={"uri": str(shell.folder / "unused")},
        specialists=[{"kind": "null", "num_rows": 40}],
    )


@pytest.mark.parametrize("runner", EITHER_RUNNER)
def test_specialist_that_answers_nothing_stops_the_run(shell, tricks, config, runner):
    output = shell.folder / f"quiet-{runner}"
    silent = "specialists.0={kind: trickster, silent: true, quiet_limit: 40}"
    settings = [f"output.uri={output}", silent, *runner_of(runner)]
    command = succeed(shell.run("annotate", config, *settings, variables=tricks), code=3)
    assert "stopped: specialist 'trickster' gave no row for its first " in command.said
    assert "quiet_limit" in command.said
    assert "Traceback" not in command.said
    assert command.left_behind() == []
    assert commands.check_committed(output) < 12


def test_rule_that_rejects_everything_stops_the_run_until_it_is_told_to_go_on(shell, config):
    output = shell.folder / "harsh"
    harsh = "rules=[{rule: min_score, limits: {'null': 0.999}, alarm_share: 0.9}]"
    run = ["annotate", config, f"output.uri={output}", harsh, *runner_of("serial")]
    command = succeed(shell.run(*run), code=3)
    # the place in the rules of the config, though invalid_box goes first
    assert "stopped: rule 'min_score' rejected " in command.said
    assert "rows (alarm share 90%)" in command.said
    assert "rules.0.alarm_share=1" in command.said
    assert "Traceback" not in command.said
    assert command.left_behind() == []
    done = markers(output)
    assert 3 < commands.check_committed(output) < 12  # 8 images of 40 rows: 1,000 after 4 shards
    again = succeed(shell.run(*run), code=3)
    assert f"96 images in 12 shards, {len(done)} shards done already" in again.said
    assert "rules.0.alarm_share=1" in again.said
    assert markers(output) == done  # patience lifts no alarm


def test_alarm_is_lifted_by_the_option_it_names(shell, config):
    output = shell.folder / "lifted"
    harsh = "rules=[{rule: min_score, limits: {'null': 0.999}}]"
    run = ["annotate", config, f"output.uri={output}", *runner_of("serial")]
    stopped = succeed(shell.run(*run, harsh), code=3)
    (option,) = [word for word in stopped.said.split() if word.startswith("rules.0.")]
    succeed(shell.run(*run, harsh, option))
    assert commands.check_committed(output) == 12
