"""Schedules: exact values of the learning rate."""

import math
from collections.abc import Callable

import pytest

from microgpt.config.schema import OptimConfig
from microgpt.training.schedules import build_schedule

NAMES = ["constant", "linear", "cosine"]


def build(name: str, warmup_steps: int = 0, final_fraction: float = 0.0, steps: int = 100) -> Callable[[int], float]:
    config = OptimConfig(schedule=name, warmup_steps=warmup_steps, final_fraction=final_fraction)
    return build_schedule(config, steps)


@pytest.mark.parametrize(
    ("name", "final_fraction", "middle", "end"),
    [
        ("constant", 0.0, 1.0, 1.0),
        ("linear", 0.0, 0.5, 0.0),
        ("linear", 0.2, 0.6, 0.2),
        ("cosine", 0.0, 0.5, 0.0),
        ("cosine", 0.2, 0.6, 0.2),
    ],
)
@pytest.mark.parametrize("warmup", [0, 10])
def test_schedule_values(name: str, final_fraction: float, middle: float, end: float, warmup: int) -> None:
    schedule = build(name, warmup, final_fraction)
    assert schedule(warmup) == 1.0
    assert schedule((100 + warmup) // 2) == pytest.approx(middle, abs=1e-12)
    assert schedule(100) == pytest.approx(end, abs=1e-12)
    assert schedule(200) == schedule(100)


def test_warmup_is_linear_and_begins_above_0() -> None:
    schedule = build("cosine", 10, 0.1)
    assert [schedule(step) for step in range(11)] == pytest.approx([(step + 1) / 11 for step in range(11)])


def test_the_cosine_lies_above_the_line_first_and_below_it_last() -> None:
    cosine, linear = build("cosine"), build("linear")
    assert cosine(25) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert linear(25) == 0.75
    assert cosine(75) == pytest.approx((1 - math.sqrt(0.5)) / 2)
    assert linear(75) == 0.25


@pytest.mark.parametrize("name", NAMES)
def test_every_schedule_starts_at_the_peak_and_never_falls_below_the_final_fraction(name: str) -> None:
    schedule = build(name, final_fraction=0.2)
    fractions = [schedule(step) for step in range(101)]
    assert fractions[0] == 1.0
    assert fractions == sorted(fractions, reverse=True)
    assert fractions[-1] > 0.2 - 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_the_only_step_of_a_run_has_the_peak_learning_rate(name: str) -> None:
    assert build(name, steps=1)(0) == 1.0
