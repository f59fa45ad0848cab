"""Times a training step in pairs of variants, in turn (A, B, A, B, …): python benchmarks/training_step.py

The two variants of a pair train on the same corpus. The ratio B / A of their times is computed for each round, since
the speed of a machine drifts, and its median is printed. The corpus is made of random documents as long as those of
names, so that nothing is downloaded.
"""

import random
import statistics
import time

import torch
from timing import in_turn, ratios

from microgpt.config.schema import ModelConfig, OptimConfig, TrainConfig
from microgpt.data.batches import DocumentBatches, document_rows
from microgpt.data.tokenizer import Tokenizer
from microgpt.model.transformer import GPT
from microgpt.training.muon import Muon
from microgpt.training.optimizers import Optimizers
from microgpt.training.trainer import Trainer
from microgpt.training.updates import TorchUpdate

ROUNDS, STEPS = 7, 40
LETTERS = "abcdefghijklmnopqrstuvwxyz"
BLOCK_SIZE, N_TOKENS = 16, 512
PEAKS = {"adamw": 3e-3, "muon": 0.02}  # learning rates


def documents(n: int = 4000) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choices(LETTERS, k=round(min(15, max(2, rng.gauss(6.2, 1.6)))))) for _ in range(n)]


def trainer(pack: bool, optimizer: str) -> Trainer:
    torch.manual_seed(0)
    tokenizer = Tokenizer(LETTERS)
    model = GPT(tokenizer.vocab_size, ModelConfig(block_size=BLOCK_SIZE, n_embd=64, n_layer=3, n_head=4))
    tokens = torch.tensor(tokenizer.encode_documents(documents()))
    rows = document_rows(tokens, tokenizer.bos, BLOCK_SIZE, pack)
    batches = DocumentBatches(rows, N_TOKENS // BLOCK_SIZE, seed=0)
    optim = OptimConfig(name=optimizer, lr=PEAKS[optimizer], schedule="constant")
    train = TrainConfig(steps=10**9, val_every=10**9)
    return Trainer(model, batches, rows[:64], lambda rows: rows.n_targets, optim, train)


def with_torch_muon(run: Trainer) -> Trainer:
    """The same trainer with `torch.optim.Muon` in place of our Muon."""
    ours, *others = run.optimizer.members
    assert isinstance(ours, Muon)
    theirs = torch.optim.Muon(ours.weights, lr=PEAKS["muon"], weight_decay=0.1)
    run.optimizer = Optimizers(TorchUpdate(theirs), *others)
    return run


def seconds_per_token(run: Trainer) -> float:
    """Seconds of STEPS steps, divided by their targets. The time of padding is included; padding is not a target."""
    began = time.perf_counter()
    for _ in range(STEPS):
        run.train_step()
        run.progress.step += 1
    seconds = time.perf_counter() - began
    tokens = sum(int(n) for _, n in run.pending_losses)
    run.pending_losses.clear()
    return seconds / tokens


def compare(title: str, a: Trainer, b: Trainer) -> None:
    for run in (a, b):  # warm up
        seconds_per_token(run)
    times = in_turn(ROUNDS, lambda: seconds_per_token(a), lambda: seconds_per_token(b))
    speeds = [1 / statistics.median(values) for values in times]
    print(f"{title}: {speeds[0]:,.0f} and {speeds[1]:,.0f} tokens/s; ratio {ratios(times[1], times[0])}")


def main() -> None:
    torch.set_flush_denormal(True)
    print(f"{torch.get_num_threads()} threads; n_embd 64, 3 layers, {N_TOKENS // BLOCK_SIZE} rows of {BLOCK_SIZE}")
    compare("packed rows, one document per row (AdamW)", trainer(True, "adamw"), trainer(False, "adamw"))
    compare("Muon here, torch.optim.Muon", trainer(True, "muon"), with_torch_muon(trainer(True, "muon")))
    compare("AdamW, Muon here", trainer(True, "adamw"), trainer(True, "muon"))


if __name__ == "__main__":
    main()
