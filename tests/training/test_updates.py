"""Updates of weights: which rows of a table change, and by how much."""

import torch
from torch import Tensor

from microgpt.training.updates import Adam, RowAdagrad, TorchUpdate


def lookup(table: Tensor, rows: list[int], grads: list[list[float]]) -> None:
    """Give `table` the sparse gradient of a lookup of `rows`, where the loss has these gradients by the results."""
    found = torch.nn.functional.embedding(torch.tensor(rows), table, sparse=True)
    found.backward(torch.tensor(grads))


def test_row_adagrad_divides_by_the_root_of_the_sum_of_mean_squares() -> None:
    table = torch.zeros(4, 2, requires_grad=True)
    update = RowAdagrad([table], lr=0.5, eps=0.0)
    lookup(table, [1, 3, 1], [[1.0, 2.0], [0.0, 4.0], [2.0, 2.0]])  # row 1 twice: its gradients add to (3, 4)
    update.step()
    first, third = torch.tensor([3.0, 4.0]) / 12.5**0.5, torch.tensor([0.0, 4.0]) / 8**0.5
    torch.testing.assert_close(table.detach(), -0.5 * torch.stack([torch.zeros(2), first, torch.zeros(2), third]))
    before, table.grad = table.detach().clone(), None
    lookup(table, [1], [[1.0, 1.0]])
    update.step()
    torch.testing.assert_close(table[1].detach(), before[1] - 0.5 * torch.ones(2) / 13.5**0.5)
    assert torch.equal(table.detach()[[0, 2, 3]], before[[0, 2, 3]])


def test_a_loaded_row_adagrad_continues_to_identical_tables() -> None:
    tables = [torch.zeros(3, 2, requires_grad=True) for _ in range(2)]
    first, second = (RowAdagrad([table], lr=0.1) for table in tables)
    lookup(tables[0], [0, 2], [[1.0, 2.0], [3.0, 4.0]])
    first.step()
    with torch.no_grad():
        tables[1].copy_(tables[0])
    second.load_state_dict(first.state_dict())
    for table, update in zip(tables, (first, second), strict=True):
        table.grad = None
        lookup(table, [2, 1], [[1.0, 1.0], [5.0, 5.0]])
        update.step()
    assert torch.equal(*tables)


def test_adam_leaves_a_weight_without_a_gradient_alone() -> None:
    weights = [torch.ones(2, requires_grad=True) for _ in range(2)]
    weights[0].grad = torch.ones(2)
    Adam(weights, lr=0.1).step()
    assert not torch.equal(weights[0], torch.ones(2))
    assert torch.equal(weights[1], torch.ones(2))


def test_an_optimizer_of_torch_steps_at_the_current_rate_and_keeps_its_settings_when_loaded() -> None:
    weight = torch.zeros(2, requires_grad=True)
    weight.grad = torch.ones(2)
    old = TorchUpdate(torch.optim.SGD([weight], lr=1.0, momentum=0.5))
    old.lr = 0.25
    old.step()
    assert weight.tolist() == [-0.25, -0.25]
    new = TorchUpdate(torch.optim.SGD([weight], lr=0.1, momentum=0.5))
    new.load_state_dict(old.state_dict())
    new.step()  # the momentum of 1 goes on as 0.5 · 1 + 1
    torch.testing.assert_close(weight.detach(), torch.full((2,), -0.25 - 0.1 * 1.5))
