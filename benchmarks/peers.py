"""The same work as two other tools do it, to compare with: the ancestor's way and nanoGPT's way.

Both are written anew from what the tools do. The ancestor takes one document a step, unpadded, with torch's Adam, and
samples by reading the whole context again for each token. nanoGPT (github.com/karpathy/nanoGPT, its character-level
Shakespeare with the settings for a CPU) takes random windows, with LayerNorm, GELU, tied weights and AdamW.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rms_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)


class PeerBlock(nn.Module):
    """A block of either tool: x (B, T, C) → (B, T, C)."""

    def __init__(self, n_embd: int, n_head: int, nanogpt: bool) -> None:
        super().__init__()
        self.n_head, self.nanogpt = n_head, nanogpt
        self.qkv, self.proj = nn.Linear(n_embd, 3 * n_embd, bias=False), nn.Linear(n_embd, n_embd, bias=False)
        self.fc, self.out = nn.Linear(n_embd, 4 * n_embd, bias=False), nn.Linear(4 * n_embd, n_embd, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(n_embd, bias=False) for _ in range(2)) if nanogpt else [rms_norm] * 2

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.n_head, -1)).transpose(1, 2) for part in self.qkv(self.norms[0](x)).chunk(3, -1)
        )
        if self.nanogpt:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.mT / math.sqrt(q.size(-1))
            future = torch.ones(x.size(1), x.size(1), dtype=torch.bool).triu(1)
            y = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
        x = x + self.proj(y.transpose(1, 2).flatten(2))
        hidden = self.fc(self.norms[1](x))
        return x + self.out(F.gelu(hidden) if self.nanogpt else F.relu(hidden))


class Peer(nn.Module):
    """The model of either tool: idx (B, T) → logits (B, T, V)."""

    def __init__(self, vocab_size: int, n_embd: int, n_layer: int, n_head: int, block_size: int, nanogpt: bool) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, n_embd), nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList(PeerBlock(n_embd, n_head, nanogpt) for _ in range(n_layer))
        self.norm = nn.LayerNorm(n_embd, bias=False) if nanogpt else nn.Identity()
        self.head = nn.Linear(n_embd, vocab_size, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                last = name.endswith(("proj.weight", "out.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * n_layer) if last else 0.02)
        if nanogpt:
            self.head.weight = self.tokens.weight  # tied

    def forward(self, idx: Tensor) -> Tensor:
        x = self.tokens(idx) + self.positions.weight[: idx.size(1)]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class AncestorTrainer:
    """One document a step: `documents` are lists of ids, each with BOS at both ends."""

    def __init__(self, model: Peer, documents: Sequence[Sequence[int]], block_size: int, steps: int) -> None:
        self.model, self.documents, self.block_size, self.steps = model, documents, block_size, steps
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.9, 0.95))
        self.n = 0

    def step(self) -> float:
        """One step; returns the loss in nats per token."""
        ids = torch.tensor(self.documents[self.n % len(self.documents)][: self.block_size + 1])
        self.optimizer.param_groups[0]["lr"] = 0.01 * (1 - self.n / self.steps)
        loss = F.cross_entropy(self.model(ids[None, :-1])[0], ids[1:])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.n += 1
        return loss.item()


class NanoGPTTrainer:
    """Random windows of `ids`, in batches of 12: warm-up of 100 steps to 1e-3, then a cosine to 1e-4."""

    def __init__(self, model: Peer, ids: Tensor, block_size: int, steps: int) -> None:
        self.model, self.ids, self.block_size, self.steps = model, ids, block_size, steps
        matrices = [weight for weight in model.parameters() if weight.dim() == 2]
        others = [weight for weight in model.parameters() if weight.dim() < 2]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
        self.n = 0

    def lr(self) -> float:
        if self.n < 100:
            return 1e-3 * (self.n + 1) / 101
        done = (self.n - 100) / (self.steps - 100)
        return 1e-4 + 0.5 * (1 + math.cos(math.pi * done)) * 9e-4

    def step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr()
        starts = torch.randint(len(self.ids) - self.block_size, (12,)).tolist()
        x = torch.stack([self.ids[i : i + self.block_size] for i in starts])
        y = torch.stack([self.ids[i + 1 : i + 1 + self.block_size] for i in starts])
        loss = F.cross_entropy(self.model(x).flatten(0, 1), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.n += 1


@torch.no_grad()
def sample_without_cache(model: Peer, bos: int, length: int, block_size: int) -> int:
    """Draw one text of `length` tokens; the model reads the whole context for each. Returns the number of tokens."""
    ids = [bos]
    for _ in range(length):
        logits = model(torch.tensor([ids[-block_size:]]))[0, -1]
        ids.append(int(torch.multinomial(logits.softmax(-1), 1)))
    return length


@torch.no_grad()
def mean_loss(model: Peer, ids: Tensor, block_size: int) -> float:
    """Nats per token over all windows of `ids`, one after the other."""
    n = (len(ids) - 1) // block_size
    x, y = ids[: n * block_size].view(n, block_size), ids[1 : n * block_size + 1].view(n, block_size)
    losses = [
        F.cross_entropy(model(a).flatten(0, 1), b.flatten(), reduction="sum").item()
        for a, b in zip(x.split(64), y.split(64), strict=True)
    ]
    return sum(losses) / y.numel()
