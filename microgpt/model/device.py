"""Devices to compute on. Each function returns its device, or None if this machine has none.

Torch is imported in the functions, so that --help can list the choices without it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from microgpt.config.registry import DEVICES
from microgpt.errors import UserError

if TYPE_CHECKING:
    import torch


@DEVICES.register
def auto(number: int | None) -> torch.device | None:
    return cuda(number) or mps(number) or cpu(number)


@DEVICES.register
def cpu(number: int | None) -> torch.device | None:
    import torch

    return torch.device("cpu")


@DEVICES.register
def cuda(number: int | None) -> torch.device | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return torch.device("cuda") if number is None else torch.device("cuda", number % torch.cuda.device_count())


@DEVICES.register
def mps(number: int | None) -> torch.device | None:
    import torch

    return torch.device("mps") if torch.backends.mps.is_available() else None


def find_device(name: str, number: int | None = None) -> torch.device:
    """The device with this name; `auto` is cuda if there is one, else mps, else cpu.

    `number`, modulo the number of GPUs, is the index of the GPU. Raises `UserError` if this machine has no such device.
    """
    if (device := DEVICES[name](number)) is None:
        raise UserError(f"device={name}: there is none on this machine; use device=auto or device=cpu")
    return device


def keep_freed_memory(keep: bool = True) -> None:
    """Let the C library of Linux keep freed memory for the next step, instead of returning it to the system.

    By default glibc gives back large pieces at once, and each step gets them anew as pages that have to be filled with
    zeros. With `keep` False it gives back large pieces from now on. Either way it first gives back what is free. Does
    nothing with other C libraries.
    """
    trim_threshold, mmap_threshold = -1, -3  # names of the settings in malloc.h
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        library.mallopt(trim_threshold, 1 << 30 if keep else 1 << 22)  # bytes
        library.mallopt(mmap_threshold, 1 << 30 if keep else 1 << 22)
        library.malloc_trim(0)


@contextmanager
def restored_torch() -> Iterator[None]:
    """A context after which torch has the settings of before: threads, random numbers, denormals, the current GPU.

    Before and after it, large pieces of freed memory are given back.
    """
    import torch

    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    cuda = (torch.cuda.current_device(), torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else None
    flushes = flushes_denormals()
    keep_freed_memory(False)  # of a large corpus that is read, more would stay otherwise
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_rng_state(random_state)
        torch.set_flush_denormal(flushes)
        if cuda:
            torch.cuda.set_device(cuda[0])
            torch.cuda.set_rng_state_all(cuda[1])
        keep_freed_memory(False)


def flushes_denormals() -> bool:
    """Whether torch takes denormal numbers, such as 5e-324, for zero."""
    import torch

    return not (torch.tensor([5e-324], dtype=torch.float64) * 1).any()
