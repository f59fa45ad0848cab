"""Compares gpt.py, with one graph node per dot product, to one node per operation: python benchmarks/dot_nodes.py

Both forms train the same model on the same names, in turn (A, B, A, B, …), and must have the same losses. The simple
form is that of the well-known 200 lines (https://gist.github.com/karpathy/8627fe009c40f57531cb18360106ce95): every
product and every sum is a node of the graph, and a recursive search from the loss sorts the nodes before each backward
pass. It needs no package. `--data names.txt` measures on a file of documents instead of the names of emoji.
"""

import argparse
import gc
import importlib.util
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

GPT = Path(__file__).parents[1] / "microgpt" / "gpt.py"


class Node:
    """`Value` of gpt.py in its simple form: a number, its gradient, and the nodes that it was computed from."""

    __slots__ = ("children", "data", "grad", "local_grads")

    def __init__(self, data: float, children: tuple["Node", ...] = (), local_grads: tuple[float, ...] = ()) -> None:
        self.data, self.grad, self.children, self.local_grads = data, 0.0, children, local_grads

    def __add__(self, other: Any) -> "Node":
        other = other if isinstance(other, Node) else Node(other)
        return Node(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: Any) -> "Node":
        other = other if isinstance(other, Node) else Node(other)
        return Node(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, n: float) -> "Node":
        return Node(self.data**n, (self,), (n * self.data ** (n - 1),))

    def __sub__(self, other: "Node") -> "Node":
        return self + other * -1.0

    def exp(self) -> "Node":
        return Node(math.exp(self.data), (self,), (math.exp(self.data),))

    def log(self) -> "Node":
        return Node(math.log(self.data), (self,), (1 / self.data,))

    def relu(self) -> "Node":
        return Node(max(0.0, self.data), (self,), (float(self.data > 0),))

    def backward(self) -> None:
        order: list[Node] = []
        seen: set[Node] = set()

        def visit(node: Node) -> None:
            if node not in seen:
                seen.add(node)
                for child in node.children:
                    visit(child)
                order.append(node)

        visit(self)
        self.grad = 1.0
        for node in reversed(order):
            for child, local_grad in zip(node.children, node.local_grads, strict=True):
                child.grad += local_grad * node.grad


def dot(a: Sequence[Node], b: Sequence[Node]) -> Node:
    total = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        total = total + x * y
    return total


def logsumexp(x: Sequence[Node]) -> Node:
    largest = max(xi.data for xi in x)
    total = (x[0] + -largest).exp()
    for xi in x[1:]:
        total = total + (xi + -largest).exp()
    return total.log() + largest


def load(name: str) -> Any:
    """A new module object of gpt.py, named `name`: changes to it do not affect other copies."""
    spec = importlib.util.spec_from_file_location(name, GPT)
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def simple_form() -> Any:
    """A copy of gpt.py that computes with `Node`."""
    module = load("simple")
    module.Value, module.dot, module.logsumexp = Node, dot, logsumexp
    return module


def trainer(gpt: Any, file: str, n_embd: int, n_layer: int, block_size: int) -> Callable[[], float]:
    """A function that trains on the next document and returns its loss."""
    documents, _ = gpt.split(gpt.read_documents(file), 1337)
    chars = "".join(sorted(set("".join(documents))))
    model = gpt.GPT(len(chars) + 1, block_size, n_embd, n_layer, 4, random.Random(1337))
    n = len(model.parameters())
    m, v = [0.0] * n, [0.0] * n
    steps = iter(range(1, 10**9))

    def step() -> float:
        number = next(steps)
        nats = list(gpt.losses(model, documents[number], chars))
        loss = gpt.dot(nats, [gpt.Value(1 / len(nats))] * len(nats))
        loss.backward()
        gpt.adam(model.parameters(), m, v, number, 0.01)
        return loss.data

    return step


def seconds_per_document(step: Callable[[], float], documents: int) -> tuple[float, list[float]]:
    """Seconds per document, and the losses, of training on the next documents."""
    began = time.perf_counter()
    losses = [step() for _ in range(documents)]
    return (time.perf_counter() - began) / documents, losses


def compare(file: str, n_embd: int, n_layer: int, block_size: int, rounds: int, documents: int) -> None:
    ours, simple = (trainer(gpt, file, n_embd, n_layer, block_size) for gpt in (load("ours"), simple_form()))
    times = []
    for _ in range(rounds):
        (a, losses) = seconds_per_document(ours, documents)
        (b, others) = seconds_per_document(simple, documents)
        assert all(math.isclose(x, y, rel_tol=1e-6) for x, y in zip(losses, others, strict=True)), "the losses differ"
        times.append((a, b))
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = [b / a for a, b in times]
    print(
        f"n_embd {n_embd}, n_layer {n_layer}, block_size {block_size}: {a * 1e3:.1f} and {b * 1e3:.1f} ms per document;"
        f" ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="a file of documents, one per line")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=10, help="documents per round")
    options = parser.parse_args()
    gc.disable()  # as in gpt.py; neither form has reference cycles
    sys.setrecursionlimit(100_000)  # for the simple form
    for sizes in ((16, 1, 16), (32, 2, 32)):
        compare(options.data, *sizes, options.rounds, options.documents)


if __name__ == "__main__":
    main()
