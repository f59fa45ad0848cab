"""Devices: the torch device of each name, on machines with and without GPUs."""

import platform
import subprocess
import sys

import pytest
import torch

from microgpt.errors import UserError
from microgpt.model.device import find_device, flushes_denormals, restored_torch


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A simulated machine without GPUs."""
    has_gpus(monkeypatch, 0)
    has_mps(monkeypatch, False)
    return monkeypatch


def has_gpus(machine: pytest.MonkeyPatch, n: int) -> None:
    machine.setattr(torch.cuda, "is_available", lambda: n > 0)
    machine.setattr(torch.cuda, "device_count", lambda: n)


def has_mps(machine: pytest.MonkeyPatch, available: bool) -> None:
    machine.setattr(torch.backends.mps, "is_available", lambda: available)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_an_unavailable_device_is_an_error(machine: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(UserError, match=rf"device={name}: there is none on this machine.*device=auto or device=cpu"):
        find_device(name)


def test_auto_is_cuda_else_mps_else_cpu(machine: pytest.MonkeyPatch) -> None:
    assert find_device("auto") == torch.device("cpu")
    has_mps(machine, True)
    assert find_device("auto") == torch.device("mps")
    has_gpus(machine, 1)
    assert find_device("auto") == torch.device("cuda")
    assert find_device("mps") == torch.device("mps")


def test_the_number_of_a_gpu_is_taken_modulo_their_count(machine: pytest.MonkeyPatch) -> None:
    has_gpus(machine, 2)
    assert [find_device("cuda", n) for n in (0, 1, 2, 5)] == [torch.device("cuda", n % 2) for n in (0, 1, 2, 5)]
    assert find_device("auto", 3) == torch.device("cuda", 1)
    assert find_device("cuda").index is None


def test_cpu_and_mps_ignore_the_device_number(machine: pytest.MonkeyPatch) -> None:
    has_mps(machine, True)
    assert find_device("cpu", 3) == torch.device("cpu")
    assert find_device("mps", 3) == torch.device("mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_an_error_on_a_machine_without_it() -> None:
    with pytest.raises(UserError, match=r"device=cuda.*device=cpu"):
        find_device("cuda")


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="needs the C library of Linux")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    script = """
import resource, numpy
from microgpt.model.device import keep_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        numpy.ones(8_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

returned = new_pages()
keep_freed_memory()
new_pages()
kept = new_pages()
keep_freed_memory(False)
print(returned, kept, new_pages())
"""
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    returned, kept, again = map(int, output.split())
    assert kept < returned / 10 and again > returned / 2


def test_torch_is_restored_also_after_an_error() -> None:
    threads, numbers = torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(KeyError), restored_torch():
        torch.set_num_threads(threads + 1)
        torch.manual_seed(9)
        torch.set_flush_denormal(True)
        assert flushes_denormals()
        raise KeyError
    assert torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), numbers)
    assert not flushes_denormals()
