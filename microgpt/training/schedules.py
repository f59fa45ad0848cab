"""Learning-rate schedules: functions that return the learning rate as a fraction of its peak.

A registered function takes t, which rises from 0 after the warm-up to 1 at the end of training, and the fraction to end
at. To add a schedule, register a function here: `optim.schedule=` and --help then offer it.
"""

import math
from collections.abc import Callable

from microgpt.config.registry import SCHEDULES
from microgpt.config.schema import OptimConfig

Schedule = Callable[[int], float]  # step, from 0 → fraction of the peak learning rate


@SCHEDULES.register
def linear(t: float, final_fraction: float) -> float:
    """A line from 1 to `final_fraction`."""
    return 1 - t * (1 - final_fraction)


@SCHEDULES.register
def cosine(t: float, final_fraction: float) -> float:
    """Split a period of a cosine, from 1 to `final_fraction` (Loshchilov & Hutter 2017)."""
    return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * t)) / 2


@SCHEDULES.register
def constant(t: float, final_fraction: float) -> float:
    """Always 1."""
    return 1.0


def build_schedule(config: OptimConfig, steps: int) -> Schedule:
    """A function from the step, counted from 0, to the fraction of the peak learning rate.

    The fraction rises linearly over `warmup_steps`, then follows `config.schedule` until `steps`.
    """
    after_warmup, warmup_steps = SCHEDULES[config.schedule], config.warmup_steps

    def schedule(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)  # above 0 at the first step
        t = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
        return after_warmup(t, config.final_fraction)

    return schedule
