"""Learning-rate schedules, as fractions of the peak. A new one is a function here; `optim.schedule=` knows it then.

A registered function gets the progress t from 0, where the warm-up ends, to 1, the last step, and the final fraction.
"""

import math
from collections.abc import Callable

from microgpt.config.registry import SCHEDULES
from microgpt.config.schema import OptimConfig

Schedule = Callable[[int], float]


@SCHEDULES.register
def linear(t: float, final_fraction: float) -> float:
    return 1 - t * (1 - final_fraction)


@SCHEDULES.register
def cosine(t: float, final_fraction: float) -> float:
    """Half a cosine, Loshchilov & Hutter 2017."""
    return final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * t)) / 2


@SCHEDULES.register
def constant(t: float, final_fraction: float) -> float:
    return 1.0


def build_schedule(config: OptimConfig, steps: int) -> Schedule:
    """A function from the step (0 the first) to the fraction of the peak learning rate.

    It rises linearly over `warmup_steps`, then follows `config.schedule` until `steps`.
    """
    after_warmup, warmup_steps = SCHEDULES[config.schedule], config.warmup_steps

    def schedule(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return after_warmup(min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps)), config.final_fraction)

    return schedule
