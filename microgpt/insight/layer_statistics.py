"""Layer statistics: norms of weights and gradients, and sizes of activations, of each layer of a model."""

import torch
from torch import Tensor, nn

from microgpt.data.batches import Rows
from microgpt.model.transformer import GPT, MLP, Attention, cross_entropy


def layer_statistics(model: GPT, rows: Rows) -> dict[str, float]:
    """Scalars by layer, of one forward and backward pass over `rows` that leaves the model as it was.

    `weights/…` and `gradients/…`: Frobenius norms of each matrix, the gradient of the mean loss in nats per token.
    `activations/…`: root mean square of the output that each attention and MLP adds to the residual stream;
    `…/silent`: the share of an MLP's units that are 0 for all tokens (only for activations that are 0 below 0).
    """
    assert all(weight.grad is None for weight in model.parameters()), "a step's gradients would be lost"
    scalars: dict[str, float] = {}
    names = {module: name for name, module in model.named_modules()}

    def keep(module: nn.Module, _: object, output: Tensor) -> None:
        scalars[f"activations/{names[module]}"] = output.square().mean().sqrt().item()

    def keep_silent(module: nn.Module, _: object, output: Tensor) -> None:
        silent = (output <= 0).flatten(0, -2).all(0)
        scalars[f"activations/{names[module].removesuffix('.fc')}/silent"] = silent.float().mean().item()

    hooks = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, Attention | MLP)]
    mlps = [m for m in model.modules() if isinstance(m, MLP) and m.activation(torch.tensor(-1.0)) == 0]
    hooks += [m.fc.register_forward_hook(keep_silent) for m in mlps]
    try:
        with torch.enable_grad():
            loss = cross_entropy(model(rows.idx, rows.positions), rows.targets) / rows.n_targets
            gradients = torch.autograd.grad(loss, list(model.parameters()))
    finally:
        for hook in hooks:
            hook.remove()
    for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
        name = name.removesuffix(".weight")
        scalars[f"weights/{name}"] = weight.detach().norm().item()
        scalars[f"gradients/{name}"] = gradient.norm().item()
    return scalars
