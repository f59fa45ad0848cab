"""The updates of Adam and AdamW by torch's fused kernels, those of tables with sparse gradients, and clipping.

Torch's optimizer classes are not used: the first one that is built imports torch._dynamo, which takes about 2 s.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


class Update(ABC):
    """Updates `weights` by their gradients, at the learning rate `lr`.

    `state` holds the tensors that are kept for each weight.
    """

    def __init__(self, weights: Iterable[Tensor], lr: float) -> None:
        self.weights = list(weights)
        self.lr = self.peak_lr = lr
        self.state: list[dict[str, Tensor]] = [{} for _ in self.weights]

    @abstractmethod
    def step(self) -> None:
        """Update the weights that have a gradient."""

    def state_dict(self) -> dict[str, Any]:
        """The state of each weight by its number, as in the checkpoints of torch's optimizers."""
        return {"state": dict(enumerate(self.state))}

    def state_sizes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        """The names and the shapes of the tensors that are kept for a weight, from its first update on."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load the state, and keep the settings: those of a resumed run may differ from the saved ones.

        Raises `ValueError` for a state of another optimizer or of other weights, and for numbers that are not finite.
        """
        for i, state in saved["state"].items():
            sizes = {name: tuple(value.shape) for name, value in state.items()}
            if state and sizes != self.state_sizes(self.weights[i]):
                raise ValueError(f"weight {i} has {sizes}")
            if not all(value.isfinite().all() for value in state.values()):
                raise ValueError(f"weight {i} has numbers that are not finite")
            self.state[i] = {name: value.to(self.weights[i].device, copy=True) for name, value in state.items()}


class TorchUpdate(Update):
    """Any optimizer of torch, with one group of weights."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        (group,) = optimizer.param_groups
        super().__init__(group["params"], group["lr"])
        self.optimizer = optimizer

    def step(self) -> None:
        self.optimizer.param_groups[0]["lr"] = self.lr
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        (group,) = self.optimizer.param_groups
        settings = {name: value for name, value in group.items() if name != "params"}
        self.optimizer.load_state_dict(saved)  # with the settings of the checkpoint
        self.optimizer.param_groups[0].update(settings)


class Adam(Update):
    """Adam (Kingma & Ba 2015); if `decoupled`, AdamW (Loshchilov & Hutter 2019). All tensors are updated at once."""

    def __init__(
        self,
        weights: Iterable[Tensor],
        lr: float,
        *,
        betas: Sequence[float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = True,
    ) -> None:
        super().__init__(weights, lr)
        self.settings = {"beta1": betas[0], "beta2": betas[1], "eps": eps, "weight_decay": weight_decay}
        self.update = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def state_sizes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        return {"step": (), "exp_avg": tuple(weight.shape), "exp_avg_sq": tuple(weight.shape)}

    @torch.no_grad()
    def step(self) -> None:
        members = [(weight, weight.grad, state) for weight, state in zip(self.weights, self.state, strict=True)]
        weights, grads, states = zip(*(member for member in members if member[1] is not None), strict=True)
        for weight, state in zip(weights, states, strict=True):
            if not state:
                state["step"] = torch.zeros((), device=weight.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        steps, averages, squares = ([state[name] for state in states] for name in ("step", "exp_avg", "exp_avg_sq"))
        torch._foreach_add_(steps, 1)
        options = {"amsgrad": False, "maximize": False, "lr": self.lr, **self.settings}
        self.update(weights, grads, averages, squares, [], steps, **options)


class TableSGD(Update):
    """SGD for tables of embeddings whose gradient is sparse: each weight holds `n_tables` tables of as many rows.

    The gradient is divided by the root of the mean square of a row's gradient: one moving average for each table. So
    the steps do not depend on the scale of the loss, and a rare row moves in proportion to how often it is looked up.
    Adam gives it steps as large as those of a frequent row, and then the table memorises the training split. Only the
    rows in the gradient are changed: the cost does not grow with the table.
    """

    DECAY = 0.99  # per step, of the moving average

    def __init__(self, weights: Iterable[Tensor], lr: float, n_tables: int, eps: float = 1e-8) -> None:
        super().__init__(weights, lr)
        self.n_tables, self.eps = n_tables, eps

    def state_sizes(self, weight: Tensor) -> dict[str, tuple[int, ...]]:
        return {"step": (), "mean_square": (self.n_tables,)}

    @torch.no_grad()
    def step(self) -> None:
        for weight, state in zip(self.weights, self.state, strict=True):
            if weight.grad is None:
                continue
            grad = weight.grad.coalesce()
            rows, values = grad.indices()[0], grad.values()  # (n,), (n, C)
            table = rows // (len(weight) // self.n_tables)  # (n,)
            if not state:
                state["step"] = torch.zeros((), device=weight.device)
                state["mean_square"] = weight.new_zeros(self.n_tables)
            state["step"] += 1
            total = weight.new_zeros(self.n_tables).index_add_(0, table, values.square().mean(1))
            mean = total / table.bincount(minlength=self.n_tables).clamp_min(1)
            state["mean_square"].lerp_(mean, 1 - self.DECAY)
            root = (state["mean_square"] / (1 - self.DECAY ** state["step"])).sqrt_()  # (n_tables,)
            weight.index_add_(0, rows, values / (root + self.eps)[table, None], alpha=-self.lr)


@torch.no_grad()
def clip_gradient(weights: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale the gradients of `weights` down if their norm exceeds `max_norm`. Returns the norm before, a scalar."""
    grads = [weight.grad for weight in weights if weight.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    torch._foreach_mul_(grads, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm
