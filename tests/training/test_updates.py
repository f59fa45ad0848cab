"""Updates of weights: which rows of a table change, and by how much."""

import torch
from torch import Tensor

from microgpt.training.updates import Adam, TableSGD, TorchUpdate


def lookup(table: Tensor, rows: list[int], grads: list[list[float]]) -> None:
    """Give `table` the sparse gradient of a lookup of `rows`, where the loss has these gradients by the results."""
    found = torch.nn.functional.embedding(torch.tensor(rows), table, sparse=True)
    found.backward(torch.tensor(grads))


def test_table_sgd_divides_by_the_root_mean_square_of_each_table() -> None:
    table = torch.zeros(4, 2, requires_grad=True)  # tables of two rows
    update = TableSGD([table], lr=0.5, n_tables=2, eps=0.0)
    lookup(table, [1, 3, 1, 2], [[1.0, 2.0], [0.0, 4.0], [2.0, 2.0], [2.0, 0.0]])  # row 1 twice: they add to (3, 4)
    update.step()
    scales = torch.tensor([12.5, 12.5, 5.0, 5.0]) ** 0.5  # mean squares 12.5; 8 and 2
    expected = -0.5 * torch.tensor([[0.0, 0.0], [3.0, 4.0], [2.0, 0.0], [0.0, 4.0]]) / scales[:, None]
    torch.testing.assert_close(table.detach(), expected)
    before, table.grad = table.detach().clone(), None
    lookup(table, [1], [[1.0, 1.0]])
    update.step()
    mean_square = (0.99 * 0.01 * 12.5 + 0.01 * 1.0) / (1 - 0.99**2)  # a moving average without the bias to its start
    torch.testing.assert_close(table[1].detach(), before[1] - 0.5 * torch.ones(2) / mean_square**0.5)
    assert torch.equal(table.detach()[[0, 2, 3]], before[[0, 2, 3]])


def test_table_sgd_does_not_depend_on_the_scale_of_the_loss() -> None:
    tables = []
    for factor in (1.0, 1000.0):
        table = torch.zeros(4, 2, requires_grad=True)
        update = TableSGD([table], lr=0.1, n_tables=2)
        for row in (0, 3, 0):
            table.grad = None
            lookup(table, [row], [[factor, 2 * factor]])
            update.step()
        tables.append(table.detach())
    torch.testing.assert_close(*tables)


def test_a_loaded_table_sgd_continues_to_identical_tables() -> None:
    tables = [torch.zeros(4, 2, requires_grad=True) for _ in range(2)]
    first, second = (TableSGD([table], lr=0.1, n_tables=2) for table in tables)
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
