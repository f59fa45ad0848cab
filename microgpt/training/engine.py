"""Decides whether torch or the compiled step of `training.tiny` takes the steps of a run (`train.engine`)."""

import math
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from microgpt.config.program import install
from microgpt.config.schema import ModelConfig, OptimConfig, TrainConfig
from microgpt.data.batches import PADDING, Rows
from microgpt.errors import UserError
from microgpt.model.transformer import GPT
from microgpt.training.distributed import Ranks
from microgpt.training.optimizers import Optimizers

# train.engine=auto uses the compiled step up to so many weights times tokens of a step, where it takes about half the
# time of torch on one core or less, and from so many steps on, in which it gains more than the second it takes to load.
MAX_WORK, MIN_STEPS = 10**7, 1000

# The fields of a plain model that may have any value. Those of n-grams have no effect where `ngrams` is 0.
FREE = ("n_embd", "n_layer", "n_head", "block_size", "zero_init", "ngram_rows", "ngram_dropout")


class TinyEngine:
    """Takes steps of Adam or AdamW on the weights of `model` and on the state of `optimizer`, in place.

    The weights, and each of the two averages of Adam, are made views of a single array: the compiled step updates the
    arrays, and validation, checkpoints and samples read the views.
    """

    def __init__(self, model: GPT, optimizer: Optimizers, optim: OptimConfig) -> None:
        from microgpt.training.tiny import Settings, train

        weights, states = list(model.parameters()), adam_states(optimizer)
        flat = parameters_to_vector(weights).detach()
        vector_to_parameters(flat, weights)
        self.arrays = [flat.numpy()]
        for name in ("exp_avg", "exp_avg_sq"):
            parts = [state.get(name, torch.zeros_like(w)) for state, w in zip(states, weights, strict=True)]
            flat = parameters_to_vector(parts)
            self.arrays.append(flat.numpy())
            for state, w, view in zip(states, weights, flat.split([w.numel() for w in weights]), strict=True):
                state[name] = view.view_as(w)
        self.steps = torch.stack([state.get("step", torch.zeros(())) for state in states])  # equal, one for each weight
        for state, step in zip(states, self.steps, strict=True):
            state["step"] = step
        self.train: Any = train
        self.n_steps, self.lr = int(self.steps[0]), float(optim.lr)
        self.settings = Settings(
            n_head=model.config.n_head,
            block_size=model.block_size,
            vocab_size=model.head.out_features,
            n_embd=model.config.n_embd,
            n_layer=model.config.n_layer,
            beta1=float(optim.betas[0]),
            beta2=float(optim.betas[1]),
            eps=float(optim.eps),
            weight_decay=float(optim.weight_decay),
            decoupled=optim.name == "adamw",
            max_norm=float(optim.clip_grad or math.inf),
        )

    def step(self, rows: Rows, lr_factor: float) -> tuple[Tensor, Tensor]:
        """One step at `lr_factor` of the peak learning rate. Returns the mean loss and the norm of the gradient."""
        targets = rows.targets.numpy()
        kept = (targets != PADDING).nonzero()  # row and column of each token
        idx, positions = rows.idx.numpy()[kept], kept[1] if rows.positions is None else rows.positions.numpy()[kept]
        self.n_steps += 1
        self.steps.fill_(self.n_steps)
        lr = self.lr * lr_factor
        loss, norm = self.train(*self.arrays, idx, targets[kept], positions, self.settings, lr, self.n_steps)
        return torch.tensor(loss), torch.tensor(norm)


def adam_states(optimizer: Optimizers) -> list[dict[str, Tensor]]:
    """The state of each weight, in the order of the weights."""
    return [state for member in optimizer.members for state in member.state]


def is_tiny(model: GPT, optim: OptimConfig, train: TrainConfig, ranks: Ranks) -> bool:
    """Whether the compiled step is to be used: if `train.engine` asks for it, or if it is auto and this is faster.

    Raises `UserError` if `train.engine=tiny` is not possible.
    """
    if train.engine == "torch":
        return False
    work = model.n_parameters() * train.batch_size * model.block_size
    if train.engine == "auto" and (work > MAX_WORK or train.steps < MIN_STEPS):
        return False
    reason = obstacle(model, optim, train, ranks)
    if reason and train.engine == "tiny":
        raise UserError(f"train.engine=tiny: {reason}")
    return not reason


def obstacle(model: GPT, optim: OptimConfig, train: TrainConfig, ranks: Ranks) -> str:
    """Why the compiled step cannot train this model; "" if it can."""
    sizes = {name: getattr(model.config, name) for name in FREE}
    if find_spec("numba") is None:
        return f"Numba is not installed; add it with: {install('fast')}"
    if model.config != replace(ModelConfig(), **sizes):
        return "needs the plain model (model=tuned)"
    if optim.name not in ("adam", "adamw"):
        return f"needs optim.name=adam or adamw, not {optim.name}"
    if model.head.weight.device.type != "cpu" or ranks.world_size > 1:
        return "needs device=cpu and one process"
    if train.profile:
        return "needs train.profile=false: it calls no operations of torch"
    if train.precision != "fp32" or train.compile:
        return "needs train.precision=fp32 and train.compile=false"
    return ""
