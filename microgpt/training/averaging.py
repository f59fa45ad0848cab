"""The moving average (EMA) of the weights: evaluated beside the weights, and kept as the best where it is better.

A checkpoint holds the weights under `model`, and the average under `average`. In the best checkpoint `model` is what is
best: if that is the average, the weights from which training goes on are under `raw_model`. So whoever opens the best
checkpoint needs to know nothing of averages.
"""

import copy
from typing import Any

import torch

from microgpt.model.transformer import GPT

State = dict[str, Any]  # what a checkpoint holds


class WeightAverage:
    """The moving average of the weights of `model`, as a model of its own; each step keeps `decay` of it.

    In the first steps it keeps less, (1 + step) / (10 + step), so that the initial weights are soon forgotten. It is a
    function of the weights and the step alone, so that a resumed run has the same one. `is_best`: whether the best
    validation loss so far is that of the average.
    """

    def __init__(self, model: GPT, decay: float) -> None:
        self.source, self.decay, self.is_best = model, decay, False
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.weights = tuple(self.model.parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights after step number `step`, counted from 0."""
        kept = min(self.decay, (1 + step) / (10 + step))
        # The weights are looked up anew: the compiled step of tiny models replaces their storage.
        torch._foreach_lerp_(self.weights, tuple(self.source.parameters()), 1 - kept)

    def state_dict(self) -> State:
        return {"weights": self.model.state_dict(), "is_best": self.is_best}

    def load_state_dict(self, state: State | None) -> None:
        """Load the average. Without one, as of a run that had no average so far, begin with the weights."""
        self.model.load_state_dict(state["weights"] if state else self.source.state_dict())
        self.is_best = bool(state and state["is_best"])


def for_best(state: State) -> State:
    """A state as the best checkpoint holds it: its `model` is the average, if that is better."""
    average = state.get("average")
    if not average or not average["is_best"] or "raw_model" in state:
        return state
    return {**state, "model": average["weights"], "raw_model": state["model"]}


def for_training(state: State) -> State:
    """The inverse of `for_best`: its `model` are the weights from which training goes on."""
    if "raw_model" not in state:
        return state
    return {**{name: value for name, value in state.items() if name != "raw_model"}, "model": state["raw_model"]}
