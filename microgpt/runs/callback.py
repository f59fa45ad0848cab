"""The progress of a training run, and the callback that the trainer calls at each event of a run.

It is apart from the trainer, so that a callback need not import the trainer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from microgpt.runs.directory import Status


@dataclass
class Progress:
    """The progress of a run. Together with the weights and the optimizer's state it is all that resuming needs.

    Losses are in nats per token. `step` is the number of completed steps, `seconds` the wall time of training,
    `tokens` the number of targets trained on, and `stale` the number of validations since the best one.
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
    """The events of a training run, in their order. Subclasses override the methods that they need."""

    def at_start(self, progress: Progress) -> None:
        """Before the first step of a new or resumed run."""

    def before_step(self, progress: Progress) -> None:
        """Before the next step."""

    def at_validation(self, progress: Progress) -> Mapping[str, float]:
        """After the validation loss was computed. Returns further metrics to log, by tag."""
        return {}

    def at_log(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Every `train.log_every` steps and at each validation, with all metrics of that step."""

    def after_validation(self, progress: Progress, is_best: bool) -> Status | None:
        """After the metrics of a validation were logged, to save checkpoints. A returned status ends the run."""

    def at_end(self, progress: Progress, status: Status) -> None:
        """After the last step, unless an exception ended training."""
