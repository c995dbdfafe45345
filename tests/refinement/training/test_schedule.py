"""Where steps stand, and which options there are none for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import build
from engine.errors import ConfigError
from refinement.training.options import TrainOptions
from refinement.training.schedule import Plan, step_seed

STAGES = [
    {"steps": 3, "resolution": 384},
    {"resolution": 768, "batch_size": 2, "learning_rate": 1e-5},
]


def plan(**values):
    return Plan(TrainOptions(**{"batch_size": 4, "warmup": 0, **values}))


def test_warmup_rises_from_one_part_to_the_whole():
    made = plan(steps=10, warmup=4, learning_rate=8.0)
    assert [made.at(n).learning_rate for n in range(4)] == [2.0, 4.0, 6.0, 8.0]
    assert made.at(4).learning_rate == 8.0


def test_warmup_below_one_is_a_share_of_the_steps():
    assert plan(steps=10, warmup=0.4).fraction(1) == 0.5


def test_cosine_ends_at_the_final_fraction_half_way_down_in_the_middle():
    made = plan(steps=11, final_fraction=0.2)
    assert made.fraction(0) == 1
    assert made.fraction(5) == pytest.approx(0.6)
    assert made.fraction(10) == pytest.approx(0.2)


def test_constant_stays():
    assert {plan(steps=9, schedule="constant").fraction(n) for n in range(9)} == {1.0}


def test_one_step_is_a_training():
    assert plan(steps=1, learning_rate=2.0).at(0).learning_rate == 2.0


def test_stages_follow_each_other_in_size_rate_and_examples():
    made = plan(steps=5, learning_rate=1e-4, resolutions=STAGES, schedule="constant")
    steps = [made.at(n) for n in range(made.num_steps)]
    assert [step.resolution for step in steps] == [384, 384, 384, 768, 768]
    assert [step.batch_size for step in steps] == [4, 4, 4, 2, 2]
    assert [step.learning_rate for step in steps] == [1e-4] * 3 + [1e-5] * 2


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_every_example_belongs_to_one_step(first, second, size, other_size):
    stages = [{"steps": first, "batch_size": size}, {"steps": second, "batch_size": other_size}]
    made = plan(steps=first + second, batch_size=1, resolutions=stages)
    steps = [made.at(n) for n in range(made.num_steps)]
    taken = [step.position + n for step in steps for n in range(step.batch_size)]
    assert taken == list(range(first * size + second * other_size))


def test_seeds_of_steps_workers_and_trainings_differ():
    seeds = {step_seed(s, n, w) for s in range(3) for n in range(-1, 50) for w in range(4)}
    assert len(seeds) == 3 * 51 * 4
    assert all(0 <= seed < 1 << 63 for seed in seeds)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, r"train.steps is 0; allowed: 1 or more"),
        ({"learning_rate": float("nan")}, "train.learning_rate is nan"),
        ({"warmup": -1}, "train.warmup is -1"),
        ({"final_fraction": 1.5}, "train.final_fraction is 1.5; allowed: from 0 to 1"),
        ({"betas": [0.9]}, "train.betas .* two numbers"),
        ({"betas": [0.9, 1.0]}, "train.betas .* two numbers"),
        ({"clip_norm": 0}, "train.clip_norm is 0"),
        ({"label_smoothing": 1}, "train.label_smoothing is 1"),
        ({"schedule": "linear"}, "schedule"),
        ({"dtype": "float16"}, "dtype"),
        ({"lr": 1}, "train.lr is not an option; .*known"),
        ({"patience": 2}, "train.patience 2: nothing is validated"),
        ({"batch_size": 6, "accumulate": 4}, "batch_size 6 does not divide by 1 workers times"),
        ({"batch_size": 6, "workers": 4}, "choose a multiple of 4"),
        ({"resolutions": [{"steps": 5}]}, "stages name 5 of refine.train.steps 1000"),
        ({"resolutions": [{"steps": 1000}, {}]}, "stages name 1000 of refine.train.steps 1000"),
        ({"resolutions": [{}, {"steps": 5}]}, "of all but the last"),
        ({"resolutions": [{"side": 5}]}, r"train.resolutions\[0\].side is not an option"),
        ({"resolutions": [{"resolution": 0}]}, "train.resolutions.resolution is 0"),
        ({"resolutions": [{"batch_size": 3}], "accumulate": 2}, "batch_size 3 does not divide"),
        ({"lora": {"rank": 0}}, "train.lora.rank is 0"),
        ({"lora": {"targets": []}}, "train.lora.targets"),
        ({"lora": {"r": 8}}, r"train.lora.r is not an option"),
        ({"log_to": ["wandb"]}, "names wandb, which is not installed; pip install wandb"),
        ({"log_to": ["csv"]}, "log_to"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build(TrainOptions, values, "train")
    assert "\n" not in str(caught.value)


def test_what_only_says_where_it_runs_makes_no_other_training():
    free = TrainOptions(workers=2, threads=3, save_every=7, prefetch=9)
    assert free.identity() == TrainOptions().identity()
    assert TrainOptions(steps=7).identity() != TrainOptions().identity()
