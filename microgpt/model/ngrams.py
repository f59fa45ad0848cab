"""Embeddings of the n-grams that end at each token: what counting models know, learnt, at the cost of a lookup.

Hash n-gram embeddings of the Byte Latent Transformer (Pagnoni et al. 2024, arXiv 2412.09871, section 3.2.1).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HASH_FACTOR = 0x1E3779B97F4A7C15  # odd, its bits evenly mixed


class NgramEmbedding(nn.EmbeddingBag):
    """The sum of the embeddings of the n-grams that end at each token, for n = 2 … `longest`: idx (B, T) → (B, T, C).

    An n-gram is hashed to one of `rows` rows, in a table for each n. What lies before the beginning of the document
    counts as a further token, so that no n-gram reaches into another document. The embeddings start at 0. In training,
    each is left out with probability `dropout`. The gradient is sparse: it holds only the rows that were looked up.
    """

    def __init__(self, longest: int, rows: int, n_embd: int, dropout: float) -> None:
        super().__init__((longest - 1) * rows, n_embd, mode="sum", sparse=True)
        self.longest, self.rows, self.dropout = longest, rows, dropout

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)

    def places(self, idx: Tensor, positions: Tensor | None) -> Tensor:
        """The rows of `weight` (B, T, longest - 1) of the n-grams that end at each token; arguments as in `forward`."""
        tokens = idx + 1  # 0 is what lies before the beginning
        total, places = tokens, []
        for distance in range(1, self.longest):
            earlier = F.pad(tokens, (distance, 0))[:, : idx.size(1)]
            if positions is not None:
                earlier = earlier.masked_fill(positions < distance, 0)
            total = total * HASH_FACTOR + earlier  # modulo 2^64
            mixed = (total ^ (total >> 31)) * HASH_FACTOR  # so that all bits of `total` change the upper bits
            places.append((mixed >> 17) % self.rows + (distance - 1) * self.rows)
        return torch.stack(places, dim=-1)

    def forward(self, idx: Tensor, positions: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`positions` (B, T): the index of each token in its document; None: the row is one text from its beginning."""
        places = self.places(idx, positions).flatten(0, 1)  # (B T, longest - 1)
        scales = None
        if self.training and self.dropout:
            scales = self.weight.new_empty(places.shape).bernoulli_(1 - self.dropout) / (1 - self.dropout)
        return super().forward(places, per_sample_weights=scales).unflatten(0, idx.shape)
