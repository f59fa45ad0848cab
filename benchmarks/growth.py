"""How the cost grows with the sizes of the model, the batch and the corpus: one figure, with a panel for each."""

import statistics
from dataclasses import replace
from pathlib import Path

import matplotlib
import torch
from processes import large_text, load, text_config
from timing import Row, in_turn, seconds
from work import step_of

from microgpt.config.schema import Config, ModelConfig, OptimConfig, TrainConfig
from microgpt.data.batches import StreamBatches, stream_rows
from microgpt.model.device import keep_freed_memory
from microgpt.model.transformer import GPT
from microgpt.training.distributed import Ranks
from microgpt.training.run import set_up_torch
from microgpt.training.trainer import Trainer

BASE, BASE_BATCH = ModelConfig(n_embd=128, n_layer=4, n_head=4, block_size=64), 16
AXES = {
    "n_embd": [32, 64, 128, 256, 512],
    "n_layer": [1, 2, 4, 8, 16],
    "block_size": [16, 32, 64, 128, 256],
    "batch_size": [2, 4, 8, 16, 32, 64],
}
CORPUS_SIZES = [100_000, 1_000_000, 10_000_000, 100_000_000]
BOUNDS = {
    "n_embd": "calls at 32, matrix products from 128 on",
    "n_layer": "proportional to the layers",
    "block_size": "matrix products, at 256 also attention",
    "batch_size": "calls and Muon at 2, matrix products from 16 on",
    "corpus": "first: reading and encoding; then: mapping",
}


def step_seconds(model: ModelConfig, batch_size: int, rounds: int) -> float:
    """Seconds of a step on random tokens, with Muon: the median of some rounds."""
    torch.manual_seed(0)
    set_up_torch(Config(), Ranks())
    keep_freed_memory()
    tokens = torch.randint(66, (200_000,))
    batches = StreamBatches(tokens, model.block_size, batch_size, seed=0)
    train = TrainConfig(steps=10**6, batch_size=batch_size)
    val = stream_rows(tokens[:1000], model.block_size)
    run = Trainer(GPT(66, model), batches, val, lambda rows: rows.n_targets, OptimConfig(), train)
    step_of(run)()
    return statistics.median(in_turn(rounds, seconds(step_of(run), 3))[0])


def measure(folder: Path, rounds: int) -> dict[str, dict[int, list[float]]]:
    """For each axis, the figures at each size: milliseconds of a step; seconds of the first and of a later start."""
    found: dict[str, dict[int, list[float]]] = {}
    for axis, sizes in AXES.items():
        found[axis] = {}
        for size in sizes:
            model = BASE if axis == "batch_size" else replace(BASE, **{axis: size})
            found[axis][size] = [1000 * step_seconds(model, size if axis == "batch_size" else BASE_BATCH, rounds)]
    found["corpus"] = {}
    for size in CORPUS_SIZES:
        text = large_text(folder / f"growth{size}.txt", size)
        config = text_config(text)
        found["corpus"][size] = [load(config, folder / f"growth-cache{size}")[0] for _ in range(2)]
    return found


def draw(found: dict[str, dict[int, list[float]]], path: Path) -> None:
    """A panel for each axis, both scales logarithmic; the thin line is proportional to the size, or to its square."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(3.2 * len(found), 3.4), layout="constrained")
    for panel, (axis, points) in zip(panels, found.items(), strict=True):
        sizes = list(points)
        for n, label in enumerate(("first time", "from then on") if axis == "corpus" else ("a step",)):
            values = [figures[n] for figures in points.values()]
            panel.loglog(sizes, values, "o-", label=label, markersize=4)
        last = list(points.values())[-1][0]
        power = 2 if axis == "n_embd" else 1
        proportional = [last * (size / sizes[-1]) ** power for size in sizes]
        label = "proportional to its square" if power == 2 else "proportional"
        panel.loglog(sizes, proportional, color="0.6", linewidth=0.8, label=label)
        panel.set_title("characters of the corpus" if axis == "corpus" else axis, fontsize=10)
        panel.set_ylabel("seconds" if axis == "corpus" else "milliseconds")
        panel.set_xlabel(BOUNDS[axis], fontsize=7)
        if axis != "corpus":
            panel.set_xticks(sizes, [str(size) for size in sizes])
            panel.minorticks_off()
        panel.legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=130)


def growth_rows(found: dict[str, dict[int, list[float]]]) -> list[Row]:
    rows = []
    for axis, points in found.items():
        unit, digits = (" s", 2) if axis == "corpus" else (" ms", 1)
        figures = [f"{n:,}: {' / '.join(f'{v:.{digits}f}' for v in values)}{unit}" for n, values in points.items()]
        rows.append(Row(f"grows with {axis}", ", ".join(figures)))
    return rows
