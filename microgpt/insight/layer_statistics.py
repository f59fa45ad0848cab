"""Layer statistics: norms of the weights and gradients, and the size of the activations, of each layer."""

import torch
from torch import Tensor, nn

from microgpt.data.batches import Rows
from microgpt.model.transformer import GPT, MLP, Attention, cross_entropy


def layer_statistics(model: GPT, rows: Rows) -> dict[str, float]:
    """Scalars by TensorBoard tag, from one forward and backward pass over `rows`. The model is not changed.

    `weights/…` and `gradients/…`: Frobenius norm of each matrix and of its gradient (of the mean loss, nats per token).
    `activations/…`: root mean square of what each attention and each MLP adds to the residual stream.
    `activations/…/silent`: share of the MLP's units that are 0 for all tokens, if the activation is 0 below 0.
    """
    assert all(weight.grad is None for weight in model.parameters()), "must not run between backward and the step"
    scalars: dict[str, float] = {}
    names = {module: name for name, module in model.named_modules()}

    def keep(module: nn.Module, _: object, output: Tensor) -> None:
        scalars[f"activations/{names[module]}"] = output.square().mean().sqrt().item()

    def keep_silent(module: nn.Module, _: object, output: Tensor) -> None:
        silent = (output <= 0).flatten(0, -2).all(0)  # before the activation: (B, T, n_units) → (n_units,) bool
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
