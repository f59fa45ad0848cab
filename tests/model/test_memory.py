"""Memory: the estimates against what torch allocates, and the refusal of what the device cannot hold."""

import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from microgpt.config.schema import Config, DatasetConfig, ModelConfig, SamplingConfig, TrainConfig
from microgpt.errors import UserError
from microgpt.model import memory
from microgpt.model.memory import check_sampling, check_training, format_bytes, free_bytes, n_weights, training_bytes
from microgpt.model.transformer import GPT, cross_entropy

CPU = torch.device("cpu")
SWITCHES: list[dict[str, Any]] = [
    {},
    {"rotary": True},
    {"qk_norm": True},
    {"activation": "relu_squared"},
    {"activation": "gelu"},
    {"final_norm": True},
    {"dropout": 0.1},
    {"ngrams": 4, "ngram_rows": 64},
    {"rotary": True, "qk_norm": True, "activation": "relu_squared", "zero_init": True, "final_norm": True},
    {"n_layer": 5},
    {"block_size": 256, "n_embd": 16},
    {"n_embd": 160},
]


@pytest.mark.parametrize("switch", SWITCHES)
def test_the_number_of_weights_is_that_of_the_model(switch: dict[str, Any]) -> None:
    config = ModelConfig(**switch)
    assert sum(n_weights(config, 40)) == GPT(40, config).n_parameters()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("switch", SWITCHES)
def test_the_estimate_of_a_step_is_near_what_torch_keeps(switch: dict[str, Any], packed: bool) -> None:
    config, n_rows, vocab_size = ModelConfig(**switch), 8, 40
    model = GPT(vocab_size, config).train()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    idx = torch.randint(vocab_size, (n_rows, config.block_size))
    positions = torch.arange(config.block_size).expand_as(idx).clone() if packed else None
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = cross_entropy(model(idx, positions), idx)
    assert loss.isfinite()
    estimate = 4 * idx.numel() * memory.saved_floats(config, vocab_size, packed)
    assert 0.75 < estimate / sum(kept.values()) < 1.35


def peak_of_a_step(config: ModelConfig, n_rows: int, pipe: Any) -> None:
    """Send how far a training step raises the peak of this process, in bytes, and what `training_bytes` says."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    model = GPT(40, config).train()
    optimizer = torch.optim.AdamW(model.parameters())
    idx = torch.zeros(n_rows, config.block_size, dtype=torch.int64)
    before = 0
    for rows in (1, n_rows):  # the first step loads what torch needs
        before = psutil.Process().memory_info().rss
        cross_entropy(model(idx[:rows]), idx[:rows]).backward()
        optimizer.step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before
    pipe.send((peak, training_bytes(config, TrainConfig(batch_size=n_rows), 40, packed=False)))


@pytest.mark.skipif(sys.platform == "win32", reason="needs the peak memory of a process")
def test_the_estimate_is_near_the_peak_of_a_process() -> None:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=peak_of_a_step, args=(ModelConfig(n_layer=4, block_size=64), 512, sender))
    process.start()
    peak, estimate = receiver.recv()
    process.join()
    assert peak > 300e6  # a step that is large beside torch itself
    assert 0.6 < estimate / peak < 2


def config_with(name: str, value: int) -> Config:
    group, key = name.split(".")
    config = Config(dataset=DatasetConfig(name="x"))
    return replace(config, **{group: replace(getattr(config, group), **{key: value})})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.batch_size", 10**9),
        ("model.n_embd", 100_000),
        ("model.n_layer", 10_000),
        ("model.block_size", 10**7),
    ],
)
def test_training_that_does_not_fit_is_refused_with_the_largest_value_that_does(
    monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**9)
    with pytest.raises(UserError, match=f"{name}={value}: training needs about .*, and cpu has 1 GB") as error:
        check_training(config_with(name, value), 40, CPU)
    largest = int(str(error.value).rpartition("=")[2])
    assert 1 <= largest < value
    step = 4 if name == "model.n_embd" else 1  # n_head
    assert largest % step == 0
    check_training(config_with(name, largest), 40, CPU)
    with pytest.raises(UserError):
        check_training(config_with(name, largest + step), 40, CPU)


def test_a_value_of_which_none_fits_is_refused_without_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(UserError, match=r"train\.batch_size=32: training needs .* free; no value of it fits$"):
        check_training(config_with("train.batch_size", 32), 40, CPU)


@pytest.mark.parametrize(("name", "value"), [("n_samples", 10**9), ("max_tokens", 10**11)])
def test_sampling_that_does_not_fit_is_refused_with_the_largest_value_that_does(
    monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**9)
    with pytest.raises(UserError, match=f"sampling.{name}={value}: sampling needs about") as error:
        check_sampling(config_with(f"sampling.{name}", value), CPU)
    check_sampling(config_with(f"sampling.{name}", int(str(error.value).rpartition("=")[2])), CPU)


def test_the_processes_of_a_cpu_share_its_memory() -> None:
    one, two = (check_training(config_with("train.batch_size", 512), 40, CPU, world_size=n) for n in (1, 2))
    assert one < two < 2 * one  # each has its weights, and half of the rows


def test_many_prompts_need_more_memory() -> None:
    config = Config(dataset=DatasetConfig(name="x"), sampling=SamplingConfig(prompts=["a", "b"]))
    assert check_sampling(config, CPU) > check_sampling(replace(config, sampling=SamplingConfig()), CPU)


def free_under_a_limit(limit: int, pipe: Any) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pipe.send(free_bytes(CPU))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce this limit")
def test_a_limit_of_the_process_counts() -> None:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=free_under_a_limit, args=(40 * 10**9, sender))
    process.start()
    assert 0 < receiver.recv() < 40 * 10**9
    process.join()
    assert free_bytes(CPU) > 0


def test_the_limit_of_a_container_counts_without_what_is_kept_of_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text("5000000\n")
    (tmp_path / "memory.stat").write_text("anon 3000000\ninactive_file 1500000\nactive_file 500000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(CPU) > 10_000_000
    (tmp_path / "memory.max").write_text("6000000\n")
    assert free_bytes(CPU) == 2_500_000


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_600, "1 MB"), (12.34e9, "12.3 GB")]
)
def test_bytes_are_readable(n_bytes: float, text: str) -> None:
    assert format_bytes(int(n_bytes)) == text
