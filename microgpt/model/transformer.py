"""The GPT model, without I/O, printing or training.

Shapes: B batch rows, T tokens of a row, C = n_embd, H = n_head, D = C / H, V = vocab_size.

The default is a minimal GPT-2: RMSNorm without weights, no biases, ReLU, learned positions, and a norm
after the embedding instead of one before the head. Every variation is a field of `ModelConfig`, off by default.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microgpt.config.registry import ACTIVATIONS
from microgpt.config.schema import ModelConfig
from microgpt.data.batches import PADDING
from microgpt.model.ngrams import NgramEmbedding
from microgpt.model.operations import norm, rotary_table, rotate


def linear(n_in: int, n_out: int) -> nn.Linear:
    return nn.Linear(n_in, n_out, bias=False)


def dropout(x: Tensor, p: float) -> Tensor:
    """Each element is set to 0 with probability `p`, or else divided by 1 - p."""
    return F.dropout(x, p) if p else x


class Cache:
    """Keys and values of the tokens that a model has read, for generation one token at a time: `n_rows` rows.

    `tokens` (n_rows, block_size) are the tokens themselves; the first `length` of them have been read.
    """

    def __init__(self, model: "GPT", n_rows: int) -> None:
        weight, n_head, block_size = model.head.weight, model.config.n_head, model.block_size
        shape = (n_rows, n_head, block_size, weight.size(1) // n_head)  # (B, H, block_size, D)
        self.keys = [weight.new_empty(shape) for _ in model.blocks]
        self.values = [weight.new_empty(shape) for _ in model.blocks]
        self.tokens = torch.empty(n_rows, block_size, dtype=torch.int64, device=weight.device)
        self.length = 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values (B, H, length + T, D) of `layer`, with the new ones (B, H, T, D)."""
        keys, values, stop = self.keys[layer], self.values[layer], self.length + k.size(2)
        keys[:, :, self.length : stop] = k
        values[:, :, self.length : stop] = v
        return keys[:, :, :stop], values[:, :, :stop]

    def select(self, rows: Tensor) -> None:
        """Keep only these rows of the batch."""
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]
        self.tokens = self.tokens[rows]


class Attention(nn.Module):
    """Causal multi-head self-attention: x (B, T, C) → (B, T, C)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.n_head, self.layer, self.qk_norm = config.n_head, layer, config.qk_norm
        self.q, self.k, self.v = (linear(config.n_embd, config.n_embd) for _ in range(3))
        self.proj = linear(config.n_embd, config.n_embd)

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_head, -1)).transpose(1, 2)  # (B, T, C) → (B, H, T, D)

    def qk_heads(self, x: Tensor, rotary: Tensor | None) -> Tensor:
        """The heads of queries or keys x (B, T, C), normalised and rotated if the model says so: (B, H, T, D)."""
        x = x.unflatten(-1, (self.n_head, -1))  # (B, T, H, D); what follows is faster before the transpose
        if self.qk_norm:
            x = norm(x)
        if rotary is not None:
            x = rotate(x, rotary)
        return x.transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor | None, rotary: Tensor | None, cache: Cache | None) -> Tensor:
        q, k, v = self.qk_heads(self.q(x), rotary), self.qk_heads(self.k(x), rotary), self.heads(self.v(x))
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        # A single query (T = 1) comes after all cached keys and attends to all of them: no mask.
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None and q.size(2) > 1)
        return self.proj(y.transpose(1, 2).flatten(2))  # (B, H, T, D) → (B, T, C)


class MLP(nn.Module):
    """Two linear layers with 4 C hidden channels: x (B, T, C) → (B, T, C)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fc = linear(config.n_embd, 4 * config.n_embd)
        self.proj = linear(4 * config.n_embd, config.n_embd)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.activation(self.fc(x)))


class Block(nn.Module):
    """Attention, then an MLP; each adds its output to the residual stream: x (B, T, C) → (B, T, C)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention = Attention(config, layer)
        self.mlp = MLP(config)
        self.dropout = config.dropout

    def forward(self, x: Tensor, mask: Tensor | None, rotary: Tensor | None, cache: Cache | None) -> Tensor:
        p = self.dropout if self.training else 0.0
        x = x + dropout(self.attention(norm(x), mask, rotary, cache), p)
        return x + dropout(self.mlp(norm(x)), p)


def document_mask(positions: Tensor, dtype: torch.dtype) -> Tensor:
    """The attention mask of rows that hold several documents: positions (B, T) → (B, 1, T, T), 0 or -inf.

    [b, 0, i, j] is 0 if token i attends to token j: if j ≤ i, and both are in the same document. A boolean mask would
    be converted to these numbers in each layer.
    """
    # Index in the row minus index in the document is where the document starts: the same number for all its tokens.
    start = torch.arange(positions.size(1), device=positions.device) - positions  # (B, T)
    same_document = start[:, :, None] == start[:, None, :]  # (B, T, T)
    hidden = ~same_document.tril()[:, None]  # (B, 1, T, T)
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)


class GPT(nn.Module):
    """tokens → embedding + position → RMSNorm → n_layer × Block → linear → logits.

    Of `config`: `rotary` positions (RoPE) replace the learned ones; `qk_norm` is RMSNorm on queries and keys;
    `activation` is one of ACTIVATIONS; `zero_init` sets the initial output projections to 0, so that a block at first
    adds nothing; `final_norm` is an RMSNorm before the head; `ngrams` > 1 adds an `NgramEmbedding`; `dropout` applies
    to the embedding and to what attention and MLP add, in training mode. A new model is in evaluation mode. Raises
    `ValueError` if `n_head` does not divide `n_embd` (with `rotary`, into even sizes).
    """

    rotary: Tensor  # (2, block_size, H, D)

    def __init__(self, vocab_size: int, config: ModelConfig) -> None:
        super().__init__()
        n_embd, n_head, block_size = config.n_embd, config.n_head, config.block_size
        if n_embd % n_head or (config.rotary and n_embd // n_head % 2):
            raise ValueError(f"n_embd={n_embd} does not split into n_head={n_head} heads (even, if rotary)")
        self.config, self.block_size = config, block_size
        self.final_norm, self.dropout = config.final_norm, config.dropout
        self.token_embedding = nn.Embedding(vocab_size, n_embd)
        self.position_embedding = None if config.rotary else nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.n_layer))
        self.head = linear(n_embd, vocab_size)
        self.ngram_embedding = None
        if config.ngrams > 1:
            self.ngram_embedding = NgramEmbedding(config.ngrams, config.ngram_rows, n_embd, config.ngram_dropout)
        if config.rotary:
            self.register_buffer("rotary", rotary_table(block_size, n_head, n_embd // n_head), persistent=False)
        self.initialize(config.zero_init)
        self.eval()  # without dropout; the trainer turns it on for its steps

    def initialize(self, zero_init: bool) -> None:
        """Draw the weights with std 1 / sqrt(inputs). Output projections have that / sqrt(2 n_layer) (GPT-2), or 0.

        The n-gram embeddings stay 0.
        """
        for name, weight in self.dense_weights():
            std = 1 / math.sqrt(weight.size(1))
            if name.endswith("proj.weight"):
                std = 0.0 if zero_init else std / math.sqrt(2 * len(self.blocks))
            nn.init.normal_(weight, std=std)

    @property
    def has_dropout(self) -> bool:
        return self.dropout > 0 or (self.ngram_embedding is not None and self.ngram_embedding.dropout > 0)

    def n_parameters(self) -> int:
        return sum(weight.numel() for weight in self.parameters())

    def dense_weights(self) -> list[tuple[str, nn.Parameter]]:
        """The names and weights of all parameters but the n-gram embeddings, whose gradient is sparse."""
        return [(name, weight) for name, weight in self.named_parameters() if not name.startswith("ngram_embedding")]

    def empty_cache(self, n_rows: int) -> Cache:
        return Cache(self, n_rows)

    def forward(self, idx: Tensor, positions: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """idx (B, T) int64 → logits (B, T, V).

        `positions` (B, T) int64 are needed if a row holds several documents: the index of each token in its document.
        With a `cache`, idx continues the tokens in it: T is 1, unless the cache is empty.
        """
        start = 0 if cache is None else cache.length
        stop = start + idx.size(1)
        assert stop <= self.block_size, f"{stop} tokens in a block of {self.block_size}"
        assert start == 0 or idx.size(1) == 1, "only an empty cache takes several tokens at once"
        if cache is not None:
            cache.tokens[:, start:stop] = idx
        x = self.embed(idx, positions, start, cache)
        # Rotary attention depends only on distances, which are the same in the row and in the document.
        rotary = None if self.position_embedding is not None else self.rotary[:, start:stop]
        mask = None if positions is None else document_mask(positions, x.dtype)
        for block in self.blocks:
            x = block(x, mask, rotary, cache)
        if cache is not None:
            cache.length = stop
        return self.head(norm(x) if self.final_norm else x)

    def embed(self, idx: Tensor, positions: Tensor | None, start: int, cache: Cache | None) -> Tensor:
        """The input of the first block (B, T, C): the embeddings of tokens, n-grams and positions, normalised."""
        x = self.token_embedding(idx)
        if self.ngram_embedding is not None:
            if cache is None:
                x = x + self.ngram_embedding(idx, positions)
            else:  # the new tokens and those before them in the longest n-gram
                first = max(0, start - self.ngram_embedding.longest + 1)
                tokens = cache.tokens[:, first : start + idx.size(1)]
                x = x + self.ngram_embedding(tokens)[:, -idx.size(1) :]
        if self.position_embedding is not None:
            if positions is None:
                x = x + self.position_embedding.weight[start : start + idx.size(1)]
            else:
                x = x + self.position_embedding(positions)
        return dropout(norm(x), self.dropout if self.training else 0.0)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of -log p, a scalar in nats, over the targets (B, T) that are not PADDING; logits (B, T, V)."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=PADDING, reduction="sum")
