"""What happens in the course of a run: its progress, and the callback that is told of each moment.

Kept below the trainer, so that whatever takes part in a run can implement the callback without knowing the trainer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from microgpt.runs.directory import Status


@dataclass
class Progress:
    """Where a run stands; with the weights and the optimizer's state, all that resuming needs.

    Losses are in nats per token, `seconds` the wall time of training so far, `tokens` the number of targets trained on,
    `stale` the number of validations since the best one.
    """

    step: int = 0
    loss_ema: float = math.nan
    val_loss: float = math.nan
    best_val_loss: float = math.inf
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    tokens: int = 0


class Callback:
    """The moments of a training run, in their order; each method may be overridden. `progress.step` steps are done."""

    def at_start(self, progress: Progress) -> None:
        """Before the first step, or the first after the run was resumed."""

    def before_step(self, progress: Progress) -> None:
        """Before the next step."""

    def at_validation(self, progress: Progress) -> Mapping[str, float]:
        """When the validation loss is known: further metrics, for metrics.csv, TensorBoard and the console."""
        return {}

    def at_log(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Every `train.log_every` steps and at validations, with all metrics of that step."""

    def after_validation(self, progress: Progress, is_best: bool) -> Status | None:
        """When the metrics of a validation are logged, the moment to save. A status that is returned ends the run."""

    def at_end(self, progress: Progress, status: Status) -> None:
        """When no more steps follow, unless an exception ended training."""
