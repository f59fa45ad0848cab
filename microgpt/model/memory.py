"""The memory that training and sampling need, estimated before anything is allocated, and what the device has free.

The estimates count what grows with the settings: weights, optimizer, activations, the key/value cache. They are
within a factor of two of what torch allocates; the 0.3 GB that torch itself takes are not in them.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from microgpt.config.schema import Config, ModelConfig, SamplingConfig, TrainConfig, settings
from microgpt.errors import UserError
from microgpt.model.evaluation import TOKENS_AT_ONCE
from microgpt.model.text_generator import SAMPLES_AT_ONCE

FLOAT = 4  # bytes of a float32
INT = 8  # bytes of an int64
DENSE_COPIES = 4  # of each weight: itself, its gradient, and two averages of the optimizer
TRAINING_SIZES = ("train.batch_size", "model.block_size", "model.n_embd", "model.n_layer", "model.ngram_rows")
SAMPLING_SIZES = ("sampling.n_samples", "sampling.max_tokens")
BACKWARD = 16  # numbers per token and channel that the backward pass itself needs (measured)
CGROUP = Path("/sys/fs/cgroup")  # where Linux limits the memory of a container

S = TypeVar("S", ModelConfig, TrainConfig, SamplingConfig)


def n_weights(model: ModelConfig, vocab_size: int) -> tuple[int, int]:
    """The numbers of dense weights and of those in the tables of n-gram embeddings, as of a `GPT`."""
    positions = 0 if model.rotary else model.block_size
    dense = (2 * vocab_size + positions) * model.n_embd + model.n_layer * 12 * model.n_embd**2
    return dense, max(0, model.ngrams - 1) * model.ngram_rows * model.n_embd


def saved_floats(model: ModelConfig, vocab_size: int, packed: bool) -> int:
    """Numbers that a training step keeps per token, for its backward pass; `packed` rows need an attention mask."""
    # Of C numbers each: two norms, q, k, v, the output of attention, and 4 of the MLP. The others add copies.
    per_layer = 10 + 2 * (model.rotary + model.qk_norm + (model.dropout > 0)) + 4 * (model.activation != "relu")
    mask = model.block_size if packed else 0
    return model.n_embd * (model.n_layer * per_layer + 4) + 3 * vocab_size + mask


def training_bytes(
    model: ModelConfig, train: TrainConfig, vocab_size: int, packed: bool = True, world_size: int = 1
) -> int:
    """The memory of each process of a training run."""
    dense, tables = n_weights(model, vocab_size)
    rows = math.ceil(train.batch_size / train.grad_accum / world_size)  # of one backward pass
    step = rows * model.block_size * (saved_floats(model, vocab_size, packed) + BACKWARD * model.n_embd)
    validation = max(TOKENS_AT_ONCE, model.block_size) * (8 * model.n_embd + 2 * vocab_size + packed * model.block_size)
    batch = train.batch_size * model.block_size * 2 * 3 * INT  # tokens, targets, positions; two parts of an epoch
    average = dense + tables if train.ema_decay else 0
    return FLOAT * (DENSE_COPIES * dense + tables + average + max(step, validation)) + batch


def sampling_bytes(model: ModelConfig, sampling: SamplingConfig) -> int:
    """The memory of drawing all samples: the key/value cache, the random numbers, the tokens and the texts."""
    tokens = sampling.n_samples * sampling.max_tokens
    cache = min(sampling.n_samples, SAMPLES_AT_ONCE) * model.block_size * model.n_layer * 2 * model.n_embd
    return FLOAT * (cache + tokens) + (INT + FLOAT) * tokens * len(sampling.prompts)


def free_bytes(device: torch.device) -> int:
    """The memory that this process can still allocate on `device`."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [psutil.virtual_memory().available]
    with suppress(OSError, ValueError):  # no cgroup, or no limit: `max`
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        # Of files that were read, the system keeps pages as long as nobody needs their memory.
        kept = re.search(r"^inactive_file (\d+)", (CGROUP / "memory.stat").read_text(), re.MULTILINE)
        free.append(limit - used + (int(kept[1]) if kept else 0))
    if sys.platform != "win32":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free.append(limit - psutil.Process().memory_info().vms)
    return max(0, min(free))


def check_training(
    config: Config, vocab_size: int, device: torch.device, packed: bool = True, world_size: int = 1
) -> int:
    """The bytes that a training run needs on `device`. Raises `UserError` if they are more than it has free."""
    n_processes = 1 if device.type == "cuda" else world_size  # that share the memory

    def needed(values: Mapping[str, int]) -> int:
        model, train = changed(config.model, "model", values), changed(config.train, "train", values)
        return n_processes * training_bytes(model, train, vocab_size, packed, world_size)

    return require("training", TRAINING_SIZES, config, needed, device)


def check_sampling(config: Config, device: torch.device) -> int:
    """The bytes that drawing the samples of `config` needs. Raises `UserError` if `device` has less free."""

    def needed(values: Mapping[str, int]) -> int:
        return sampling_bytes(config.model, changed(config.sampling, "sampling", values))

    return require("sampling", SAMPLING_SIZES, config, needed, device)


def changed(settings: S, group: str, values: Mapping[str, int]) -> S:
    """`settings` of a group of the config, with those of `values` (`model.n_embd`: …) that are of this group."""
    return replace(
        settings, **{name: value for key, value in values.items() for g, name in [key.split(".")] if g == group}
    )


def require(
    what: str, names: Sequence[str], config: Config, needed: Callable[[Mapping[str, int]], int], device: torch.device
) -> int:
    """`needed({})`, the bytes for `what`. Raises `UserError` if the device has less free.

    The error is about the setting among `names` that is furthest above its default, and names the largest value that
    fits; `needed(values)` are the bytes with other values.
    """
    need, free = needed({}), free_bytes(device)
    if need <= free:
        return need
    defaults = {name: field.default for name, field in settings(Config)}
    values = {name: attrgetter(name)(config) for name in names}
    heads = config.model.n_head * (2 if config.model.rotary else 1)

    def largest(name: str) -> int:
        step = heads if name == "model.n_embd" else 1
        return step * largest_that_fits(lambda n: needed({name: step * n}) <= free, values[name] // step)

    by_excess = sorted(names, key=lambda name: values[name] / defaults[name], reverse=True)
    name = next((name for name in by_excess if largest(name)), by_excess[0])
    fits = f"the largest value that fits is {name}={largest(name)}" if largest(name) else "no value of it fits"
    raise UserError(
        f"{name}={values[name]}: {what} needs about {format_bytes(need)} of memory, and {device} has"
        f" {format_bytes(free)} free; {fits}"
    )


def largest_that_fits(fits: Callable[[int], bool], too_large: int) -> int:
    """The largest integer from 1 to below `too_large` that fits, if smaller ones fit as well; 0 if none does."""
    low, high = 0, too_large  # `low` fits, or is 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def format_bytes(n_bytes: int) -> str:
    """`1.2 GB`, in powers of 1,000."""
    value, units = float(n_bytes), iter(("B", "kB", "MB", "GB", "TB", "PB", "EB"))
    unit = next(units)
    while value >= 999.5 and (larger := next(units, None)):
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
