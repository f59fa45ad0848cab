"""The weights of a model as a page holds them: base64 of float32, float16 or int8.

`weights.js` is the reader. A matrix of int8 has a scale for each row. Of n-gram embeddings, only the rows that training
has changed are kept.
"""

import base64
import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from microgpt.errors import UserError
from microgpt.model.transformer import GPT

FORMATS = ("float16", "float32", "int8")
NGRAMS = "ngram_embedding"  # begins the name of the tables, which are int8 unless all is float32
MAX_INT8 = 127


@dataclass(frozen=True)
class Packed:
    """A matrix of `shape` (n, C): `values` (n_kept, C) of the format, `scales` (n_kept,) float32 of int8.

    `kept` (n,) bool says which rows are there, the others are 0; None: all.
    """

    format: str
    shape: tuple[int, int]
    values: np.ndarray
    scales: np.ndarray | None = None
    kept: np.ndarray | None = None

    @property
    def n_bytes(self) -> int:
        """The size in the page, in bytes of base64."""
        parts = [self.values.nbytes, 0 if self.scales is None else self.scales.nbytes]
        return sum(parts) * 4 // 3

    def unpack(self) -> Tensor:
        """The matrix (n, C) float32 that the page computes with."""
        rows = self.values.astype(np.float32)
        if self.scales is not None:
            rows *= self.scales[:, None]
        if self.kept is not None:
            rows, some = np.zeros(self.shape, np.float32), rows
            rows[self.kept] = some
        return torch.from_numpy(rows)

    def as_json(self) -> dict[str, Any]:
        arrays = {"values": self.values, "scales": self.scales}
        if self.kept is not None:
            arrays["kept"] = np.packbits(self.kept, bitorder="little")
        encoded = {name: to_base64(array) for name, array in arrays.items() if array is not None}
        return {"format": self.format, "shape": list(self.shape), **encoded}


def to_base64(array: np.ndarray) -> str:
    """The bytes of an array, little-endian, in base64."""
    return base64.b64encode(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))).decode()


def pack(name: str, weight: Tensor, form: str) -> Packed:
    """A matrix in the format `form`. Raises `UserError` if float16 cannot hold its numbers."""
    matrix = weight.detach().float().cpu().numpy()
    shape, kept = (matrix.shape[0], matrix.shape[1]), None
    if name.startswith(NGRAMS):
        kept = matrix.any(1)
        matrix = matrix[kept]
    if form == "float32":
        return Packed(form, shape, matrix, kept=kept)
    if form == "float16":
        if abs(matrix).max(initial=0) > np.finfo(np.float16).max:
            raise UserError("weights=float16: the run has weights too large for float16; use weights=float32")
        return Packed(form, shape, matrix.astype(np.float16), kept=kept)
    scales = np.maximum(abs(matrix).max(1, initial=0), 1e-30).astype(np.float32) / np.float32(MAX_INT8)
    return Packed(form, shape, np.rint(matrix / scales[:, None]).astype(np.int8), scales, kept)


def pack_model(model: GPT, form: str) -> dict[str, Packed]:
    """The weights of a model in the format `form`, by name; n-gram embeddings in int8 unless `form` is float32."""
    return {
        name: pack(name, weight, "int8" if name.startswith(NGRAMS) and form != "float32" else form)
        for name, weight in model.named_parameters()
    }


def with_packed(model: GPT, packed: Mapping[str, Packed]) -> GPT:
    """The model that the page computes: a copy of `model`, on the CPU, with the weights as they are packed."""
    other = copy.deepcopy(model).cpu()
    other.load_state_dict({name: matrix.unpack() for name, matrix in packed.items()})
    return other
