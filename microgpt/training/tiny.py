"""A training step of the plain GPT as one compiled function (Numba), with gradients derived by hand.

It is for models so small that the calls of torch take longer than the arithmetic. The plain GPT is that of
`model.transformer` without variations. `training.engine` decides when to use it.

Shapes: N tokens of a batch without its padding, one row after the other; C = n_embd, H = n_head, D = C / H,
L = n_layer, S = block_size, V = vocab_size. Activations are (N, C), weights (outputs, inputs). Arrays are float32,
except idx, targets and positions (N,) int64. dx is the gradient of the loss with respect to x. The functions with
`_backward` in their name add to the gradients that they are given.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit  # pyright: ignore[reportMissingImports] - an optional extra

ZERO, ONE, EPS = np.float32(0), np.float32(1), np.float32(1e-5)  # EPS: of RMSNorm
# Sums may be reordered, so that they use vector instructions; NaN and infinity keep their meaning.
compiled = njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})


class Settings(NamedTuple):
    """Of the model and of Adam."""

    n_head: int
    block_size: int
    vocab_size: int
    n_embd: int
    n_layer: int
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled: bool  # weight decay as in AdamW
    max_norm: float  # to which the gradient is clipped; inf: never


class Activations(NamedTuple):
    """What the backward pass needs of the forward pass."""

    normed: Any  # (2 L + 1, N, C) the embeddings after their norm, then the inputs of attention, MLP, attention, …
    scale: Any  # (2 L + 1, N) of the norms
    qkv: Any  # (L, N, 3 C) queries, keys, values
    p: Any  # (L, H, N, S) attention of each token to the first token of its document, the second, …
    y: Any  # (L, N, C) what attention has read
    hidden: Any  # (L, N, 4 C) of the MLP, after ReLU
    x: Any  # (N, C) the output of the last block
    logits: Any  # (N, V)


@compiled
def matmul(x, w, y):
    """Add x w^T to y: x (N, I), w (O, I), y (N, O)."""
    for t in range(x.shape[0]):
        for o in range(w.shape[0]):
            total = ZERO
            for i in range(w.shape[1]):
                total += x[t, i] * w[o, i]
            y[t, o] += total


@compiled
def matmul_backward(dy, x, w, dx, dw):
    for t in range(x.shape[0]):
        for o in range(w.shape[0]):
            d = dy[t, o]
            if d != ZERO:  # about half of them are 0 after ReLU
                for i in range(w.shape[1]):
                    dx[t, i] += d * w[o, i]
                    dw[o, i] += d * x[t, i]


@compiled
def norm(x, y, scale):
    """RMSNorm: y = x s, with s (N,) = 1 / sqrt(mean(x²) + EPS)."""
    for t in range(x.shape[0]):
        square = ZERO
        for i in range(x.shape[1]):
            square += x[t, i] * x[t, i]
        scale[t] = ONE / np.sqrt(square / np.float32(x.shape[1]) + EPS)
        for i in range(x.shape[1]):
            y[t, i] = x[t, i] * scale[t]


@compiled
def norm_backward(dy, y, scale, dx):
    """dx = s (dy - y mean(dy y))."""
    for t in range(y.shape[0]):
        mean = ZERO
        for i in range(y.shape[1]):
            mean += dy[t, i] * y[t, i]
        mean /= np.float32(y.shape[1])
        for i in range(y.shape[1]):
            dx[t, i] += scale[t] * (dy[t, i] - y[t, i] * mean)


@compiled
def softmax(x, n):
    """Replace the first n logits in x by their probabilities; returns log Σ exp of the logits."""
    largest, total = x[0], ZERO
    for i in range(n):
        largest = max(largest, x[i])
    for i in range(n):
        x[i] = np.exp(x[i] - largest)
        total += x[i]
    for i in range(n):
        x[i] /= total
    return largest + np.log(total)


@compiled
def attention(qkv, positions, p, y):
    """y[t] = Σ p[h, t, s] v[s], with p = softmax of q[t] · k[s] / sqrt(D), over s up to t in the document of t."""
    c, size = y.shape[1], y.shape[1] // p.shape[0]
    root = ONE / np.sqrt(np.float32(size))
    for h in range(p.shape[0]):
        for t in range(y.shape[0]):
            first, n = t - positions[t], positions[t] + 1
            for s in range(n):
                score = ZERO
                for i in range(h * size, (h + 1) * size):
                    score += qkv[t, i] * qkv[first + s, c + i]
                p[h, t, s] = score * root
            softmax(p[h, t], n)
            for s in range(n):
                for i in range(h * size, (h + 1) * size):
                    y[t, i] += p[h, t, s] * qkv[first + s, 2 * c + i]


@compiled
def attention_backward(dy, qkv, positions, p, dqkv):
    c, size = dy.shape[1], dy.shape[1] // p.shape[0]
    root, dp = ONE / np.sqrt(np.float32(size)), np.empty(p.shape[2], np.float32)
    for h in range(p.shape[0]):
        for t in range(dy.shape[0]):
            first, n, mean = t - positions[t], positions[t] + 1, ZERO
            for s in range(n):
                dp[s] = ZERO
                for i in range(h * size, (h + 1) * size):
                    dp[s] += dy[t, i] * qkv[first + s, 2 * c + i]
                    dqkv[first + s, 2 * c + i] += dy[t, i] * p[h, t, s]
                mean += dp[s] * p[h, t, s]
            for s in range(n):
                dscore = p[h, t, s] * (dp[s] - mean) * root
                for i in range(h * size, (h + 1) * size):
                    dqkv[t, i] += dscore * qkv[first + s, c + i]
                    dqkv[first + s, c + i] += dscore * qkv[t, i]


@compiled
def matrices(flat, settings):
    """The embeddings of tokens (V, C) and positions (S, C), the blocks (L, 12 C, C) and the head (V, C) in `flat`."""
    c, v, s = settings.n_embd, settings.vocab_size, settings.block_size
    rows = flat.reshape(-1, c)
    blocks = rows[v + s : len(rows) - v].reshape(settings.n_layer, 12 * c, c)
    return rows[:v], rows[v : v + s], blocks, rows[len(rows) - v :]


@compiled
def block_matrices(block):
    """qkv (3 C, C), proj (C, C), fc (4 C, C) and the MLP's proj (C, 4 C) in `block`."""
    c = block.shape[1]
    return block[: 3 * c], block[3 * c : 4 * c], block[4 * c : 8 * c], block[8 * c :].reshape(c, 4 * c)


@compiled
def forward(weights, idx, positions, settings):
    n, c, n_layer = len(idx), settings.n_embd, settings.n_layer
    normed, scale = np.empty((2 * n_layer + 1, n, c), np.float32), np.empty((2 * n_layer + 1, n), np.float32)
    p = np.empty((n_layer, settings.n_head, n, settings.block_size), np.float32)
    qkv, y = np.zeros((n_layer, n, 3 * c), np.float32), np.zeros((n_layer, n, c), np.float32)
    hidden, logits = np.zeros((n_layer, n, 4 * c), np.float32), np.zeros((n, settings.vocab_size), np.float32)
    x = np.empty((n, c), np.float32)
    tokens, places, blocks, head = matrices(weights, settings)
    for t in range(n):
        for i in range(c):
            x[t, i] = tokens[idx[t], i] + places[positions[t], i]
    norm(x, normed[0], scale[0])
    x = normed[0].copy()
    for layer in range(n_layer):
        wqkv, proj, fc, mlp_proj = block_matrices(blocks[layer])
        norm(x, normed[2 * layer + 1], scale[2 * layer + 1])
        matmul(normed[2 * layer + 1], wqkv, qkv[layer])
        attention(qkv[layer], positions, p[layer], y[layer])
        matmul(y[layer], proj, x)
        norm(x, normed[2 * layer + 2], scale[2 * layer + 2])
        matmul(normed[2 * layer + 2], fc, hidden[layer])
        for t in range(n):
            for i in range(4 * c):
                hidden[layer, t, i] = max(hidden[layer, t, i], ZERO)
        matmul(hidden[layer], mlp_proj, x)
    matmul(x, head, logits)
    return Activations(normed, scale, qkv, p, y, hidden, x, logits)


@compiled
def backward(weights, grads, idx, positions, act, dlogits, settings):
    n, c, n_layer = len(idx), settings.n_embd, settings.n_layer
    _, _, blocks, head = matrices(weights, settings)
    dtokens, dplaces, dblocks, dhead = matrices(grads, settings)
    dx = np.zeros((n, c), np.float32)
    matmul_backward(dlogits, act.x, head, dx, dhead)
    for layer in range(n_layer - 1, -1, -1):
        qkv, proj, fc, mlp_proj = block_matrices(blocks[layer])
        dqkv, dproj, dfc, dmlp_proj = block_matrices(dblocks[layer])
        a, b = 2 * layer + 1, 2 * layer + 2
        d, dnormed = np.zeros((n, 4 * c), np.float32), np.zeros((n, c), np.float32)
        matmul_backward(dx, act.hidden[layer], mlp_proj, d, dmlp_proj)
        for t in range(n):
            for i in range(4 * c):
                if act.hidden[layer, t, i] == ZERO:
                    d[t, i] = ZERO
        matmul_backward(d, act.normed[b], fc, dnormed, dfc)
        norm_backward(dnormed, act.normed[b], act.scale[b], dx)
        d, dnormed, dy = np.zeros((n, 3 * c), np.float32), np.zeros((n, c), np.float32), np.zeros((n, c), np.float32)
        matmul_backward(dx, act.y[layer], proj, dy, dproj)
        attention_backward(dy, act.qkv[layer], positions, act.p[layer], d)
        matmul_backward(d, act.normed[a], qkv, dnormed, dqkv)
        norm_backward(dnormed, act.normed[a], act.scale[a], dx)
    dembedding = np.zeros((n, c), np.float32)
    norm_backward(dx, act.normed[0], act.scale[0], dembedding)
    for t in range(n):
        for i in range(c):
            dtokens[idx[t], i] += dembedding[t, i]
            dplaces[positions[t], i] += dembedding[t, i]


@compiled
def update(weights, grads, averages, squares, settings, lr, step):
    """Adam, on the clipped gradient; `step` counts from 1. Returns the norm of the gradient before clipping."""
    square = 0.0
    for i in range(len(grads)):
        square += grads[i] * grads[i]
    factor = np.float32(min(1.0, settings.max_norm / (np.sqrt(square) + 1e-6)))
    a, b, eps = np.float32(1 - settings.beta1), np.float32(1 - settings.beta2), np.float32(settings.eps)
    size, root = np.float32(lr / (1 - settings.beta1**step)), np.float32(1 / np.sqrt(1 - settings.beta2**step))
    decay = np.float32(0 if settings.decoupled else settings.weight_decay)
    kept = np.float32(1 - lr * settings.weight_decay if settings.decoupled else 1)
    for i in range(len(weights)):
        g = grads[i] * factor + decay * weights[i]
        averages[i] += a * (g - averages[i])
        squares[i] += b * (g * g - squares[i])
        weights[i] = kept * weights[i] - size * averages[i] / (np.sqrt(squares[i]) * root + eps)
    return np.sqrt(square)


@compiled
def train(weights, averages, squares, idx, targets, positions, settings, lr, step):
    """One step of Adam. Returns the mean loss (nats per token) and the norm of the gradient before clipping."""
    act = forward(weights, idx, positions, settings)
    dlogits, loss, n = act.logits, 0.0, np.float32(len(idx))  # the logits are overwritten
    for t in range(len(idx)):
        loss -= dlogits[t, targets[t]]
        loss += softmax(dlogits[t], settings.vocab_size)
        dlogits[t, targets[t]] -= ONE
        for i in range(settings.vocab_size):
            dlogits[t, i] /= n
    grads = np.zeros(len(weights), np.float32)
    backward(weights, grads, idx, positions, act, dlogits, settings)
    return loss / n, update(weights, grads, averages, squares, settings, lr, step)
