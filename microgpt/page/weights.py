"""The weights of a model as a page holds them: integers of a few bits with a scale for each row, in base64.

With 16 bits they are eight times as near to the weights of the run as float16, since a row needs no exponents.
`weights.js` is the reader. Of n-gram embeddings, only the rows that training has changed are kept.
"""

import base64
import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from microgpt.model.transformer import GPT

NGRAMS = "ngram_embedding"  # begins the name of the tables, which have a number of bits of their own
MAX_BITS = 24  # of a weight: rounded about as little as float32 itself is
VALUES_AT_ONCE = 1 << 18  # a multiple of 8: the bits of each part fill whole bytes


@dataclass(frozen=True)
class Packed:
    """A matrix of `shape` (n, C): `values` (n_kept, C) int32 of `bits` bits, times `scales` (n_kept,) float32.

    `kept` (n,) bool says which rows are there, the others are 0; None: all.
    """

    bits: int
    shape: tuple[int, int]
    values: np.ndarray
    scales: np.ndarray
    kept: np.ndarray | None = None

    @property
    def n_bytes(self) -> int:
        """The size in the page, in bytes of base64."""
        return (self.values.size * self.bits // 8 + self.scales.nbytes + self.shape[0] // 8) * 4 // 3

    def unpack(self) -> Tensor:
        """The matrix (n, C) float32 that the page computes with."""
        rows = self.values.astype(np.float32) * self.scales[:, None]
        if self.kept is None:
            return torch.from_numpy(rows)
        matrix = np.zeros(self.shape, np.float32)
        matrix[self.kept] = rows
        return torch.from_numpy(matrix)

    def as_json(self) -> dict[str, Any]:
        kept = {} if self.kept is None else {"kept": to_base64(np.packbits(self.kept, bitorder="little"))}
        values = pack_bits(self.values.reshape(-1) + (1 << (self.bits - 1)), self.bits)
        packed = {"values": to_base64(values), "scales": to_base64(self.scales)}
        return {"bits": self.bits, "shape": list(self.shape), **packed, **kept}


def pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers (n,) from 0 to 2^bits - 1 as bytes (n bits / 8,), the lowest bit of the first one first."""
    parts = []
    for first in range(0, len(values), VALUES_AT_ONCE):
        part = values[first : first + VALUES_AT_ONCE, None]
        parts.append(np.packbits((part >> np.arange(bits, dtype=part.dtype)) & 1 == 1, bitorder="little"))
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)


def to_base64(array: np.ndarray) -> str:
    """The bytes of an array, little-endian, in base64."""
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def pack(name: str, weight: Tensor, bits: int) -> Packed:
    """A matrix in integers of `bits` bits, of which the largest stands for the largest number of its row."""
    matrix = weight.detach().float().cpu().numpy()
    shape, kept = (matrix.shape[0], matrix.shape[1]), None
    if name.startswith(NGRAMS):
        kept = np.asarray(matrix.any(1))
        matrix = matrix[kept]
    largest, steps = abs(matrix).max(1, initial=0), 2 ** (bits - 1) - 1
    scales = (np.where(largest > 0, largest, 1) / steps).astype(np.float32)
    values = np.rint(matrix / scales[:, None].astype(np.float64)).clip(-steps, steps)
    return Packed(bits, shape, values.astype(np.int32), scales, kept)


def pack_model(model: GPT, bits: int, ngram_bits: int) -> dict[str, Packed]:
    """The weights of a model by name, in integers of `bits` bits, n-gram embeddings of `ngram_bits`."""
    return {
        name: pack(name, weight, ngram_bits if name.startswith(NGRAMS) else bits)
        for name, weight in model.named_parameters()
    }


def with_packed(model: GPT, packed: Mapping[str, Packed]) -> GPT:
    """The model that the page computes: a copy of `model`, on the CPU, with the weights as they are packed."""
    other = copy.deepcopy(model).cpu()
    other.load_state_dict({name: matrix.unpack() for name, matrix in packed.items()})
    return other
