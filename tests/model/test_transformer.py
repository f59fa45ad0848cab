"""The model: causal, packed, cached, and equal to an implementation of its description with loops."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from microgpt.config.schema import ModelConfig
from microgpt.model.operations import rotary_table, rotate
from microgpt.model.transformer import GPT, cross_entropy

PLAIN: dict[str, Any] = {}
MODERN = {
    "rotary": True,
    "qk_norm": True,
    "activation": "relu_squared",
    "zero_init": True,
    "final_norm": True,
}
SWITCHES = [
    {"rotary": True},
    {"qk_norm": True},
    {"activation": "relu_squared"},
    {"activation": "gelu"},
    {"final_norm": True},
]
VOCAB, BLOCK, WIDTH, LAYERS, HEADS = 11, 10, 12, 2, 3

plain_and_modern = pytest.mark.parametrize("switches", [PLAIN, MODERN], ids=["plain", "modern"])


def small(**changes: Any) -> ModelConfig:
    return ModelConfig(**{"block_size": BLOCK, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, **changes})


def gpt(switches: dict[str, Any], seed: int = 0) -> GPT:
    """A small float64 model whose weights are all drawn large, so that every part affects the logits."""
    torch.manual_seed(seed)
    model = GPT(VOCAB, small(**switches)).double()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model


def tokens(*shape: int) -> Tensor:
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(1))


def influence(model: GPT, positions: Tensor | None = None) -> Tensor:
    """The size of d logits[t] / d embedding of token s (T, T), where all tokens of the row differ."""
    logits = model(torch.arange(BLOCK)[None], positions)[0].sin().sum(1)
    table = model.token_embedding.weight
    gradients = [torch.autograd.grad(logit, table, retain_graph=True)[0][:BLOCK] for logit in logits]
    return torch.stack(gradients).norm(dim=2)


def reference(model: GPT, idx: Tensor, switches: dict[str, Any]) -> Tensor:
    """Logits (T, V) of tokens idx (T,), from the description of the model, one token and one head at a time."""
    weights = dict(model.named_parameters())
    size, n = WIDTH // HEADS, len(idx)

    def rms(x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    def layer(x: Tensor, name: str) -> Tensor:
        return torch.einsum("ti,oi->to", x, weights[f"{name}.weight"])

    def rotated(x: Tensor, t: int) -> Tensor:
        """Channels i and i + D / 2 are a complex number, which is rotated by t / 10000^(2i / D)."""
        angles = t * 10000.0 ** (-torch.arange(size // 2, dtype=torch.float64) * 2 / size)
        z = torch.complex(x[: size // 2], x[size // 2 :]) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat((z.real, z.imag))

    def prepared(x: Tensor, t: int) -> Tensor:
        x = rms(x) if switches.get("qk_norm") else x
        return rotated(x, t) if switches.get("rotary") else x

    def activated(x: Tensor) -> Tensor:
        kind = switches.get("activation", "relu")
        if kind == "gelu":
            return x * (1 + torch.erf(x / math.sqrt(2))) / 2
        return x.clamp_min(0) ** (2 if kind == "relu_squared" else 1)

    x = weights["token_embedding.weight"][idx]
    if not switches.get("rotary"):
        x = x + weights["position_embedding.weight"][:n]
    x = rms(x)
    for i in range(LAYERS):
        q, k, v = (layer(rms(x), f"blocks.{i}.attention.{name}") for name in "qkv")
        y = torch.zeros_like(x)
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            keys = torch.stack([prepared(k[t, own], t) for t in range(n)])
            for t in range(n):
                scores = keys[: t + 1] @ prepared(q[t, own], t) / math.sqrt(size)
                y[t, own] = torch.einsum("s,sd->d", scores.softmax(0), v[: t + 1, own])
        x = x + layer(y, f"blocks.{i}.attention.proj")
        x = x + layer(activated(layer(rms(x), f"blocks.{i}.mlp.fc")), f"blocks.{i}.mlp.proj")
    return layer(rms(x) if switches.get("final_norm") else x, "head")


@plain_and_modern
def test_a_logit_depends_on_its_token_and_all_before_it_and_on_none_after_it(
    switches: dict[str, Any],
) -> None:
    depends = influence(gpt(switches)) != 0
    assert torch.equal(depends, torch.ones(BLOCK, BLOCK).tril().bool())


@plain_and_modern
def test_a_logit_of_a_packed_row_depends_on_its_own_document_alone(switches: dict[str, Any]) -> None:
    depends = influence(gpt(switches), torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0, 0, 1]])) != 0
    assert torch.equal(depends, torch.block_diag(*(torch.ones(n, n).tril() for n in (3, 4, 1, 2))).bool())


@plain_and_modern
def test_documents_packed_in_a_row_get_the_logits_of_each_alone(switches: dict[str, Any]) -> None:
    model, sizes = gpt(switches), (3, 4, 1, 2)
    documents = tokens(BLOCK).split(sizes)
    positions = torch.cat([torch.arange(size) for size in sizes])
    packed = model(torch.cat(documents)[None], positions[None])[0]
    alone = torch.cat([model(document[None])[0] for document in documents])
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-6 if switches else 1e-12)


@plain_and_modern
def test_positions_of_a_single_document_change_nothing(switches: dict[str, Any]) -> None:
    model, idx = gpt(switches), tokens(2, BLOCK)
    positions = torch.arange(BLOCK).expand(2, -1)
    torch.testing.assert_close(model(idx, positions), model(idx), rtol=0, atol=1e-12)


@pytest.mark.parametrize("switches", [PLAIN, *SWITCHES, MODERN], ids=str)
def test_forward_equals_an_implementation_with_loops(switches: dict[str, Any]) -> None:
    """The tables of rotary positions are float32, so those models are compared less closely."""
    model, idx = gpt(switches), tokens(3, BLOCK - 1)
    expected = torch.stack([reference(model, row, switches) for row in idx])
    torch.testing.assert_close(model(idx), expected, rtol=0, atol=1e-5 if "rotary" in switches else 1e-12)


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_every_switch_changes_the_logits_of_the_same_weights(switch: dict[str, Any]) -> None:
    plain, switched = gpt(PLAIN), gpt(switch)
    switched.load_state_dict(plain.state_dict(), strict=False)
    assert (plain(tokens(1, BLOCK)) - switched(tokens(1, BLOCK))).abs().max() > 0.01


def test_rotary_scores_depend_on_the_distance_of_query_and_key_alone() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 8, dtype=torch.float64).expand(2, 20, 1, 8)  # (T, H, D)
    table = rotary_table(20, 1, 8)
    scores = rotate(q, table)[:, 0] @ rotate(k, table)[:, 0].mT
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1], rtol=0, atol=1e-5)
    assert scores[:, 0].std() > 0.1


@plain_and_modern
@pytest.mark.parametrize("first", [1, 4, BLOCK])
def test_one_token_at_a_time_with_a_cache_gives_the_logits_of_the_full_forward(
    switches: dict[str, Any], first: int
) -> None:
    model, idx = gpt(switches), tokens(2, BLOCK)
    cache = model.empty_cache(len(idx))
    parts = [model(part, cache=cache) for part in idx.split([first] + [1] * (BLOCK - first), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(idx), rtol=0, atol=1e-12)
    assert cache.length == BLOCK


def test_a_cache_continues_with_the_selected_rows_only() -> None:
    model, idx, kept = gpt(MODERN), tokens(4, 6), torch.tensor([0, 3])
    cache = model.empty_cache(len(idx))
    model(idx[:, :5], cache=cache)
    cache.select(kept)
    torch.testing.assert_close(model(idx[kept, 5:], cache=cache), model(idx[kept])[:, 5:], rtol=0, atol=1e-12)


@plain_and_modern
def test_with_zero_init_every_block_starts_as_the_identity(switches: dict[str, Any]) -> None:
    model = GPT(VOCAB, small(**{**switches, "zero_init": True}))
    x = torch.randn(2, BLOCK, WIDTH)
    for block in model.blocks:
        assert torch.equal(block(x, None, None, None), x)


def test_without_zero_init_no_block_starts_as_the_identity() -> None:
    x = torch.randn(2, BLOCK, WIDTH)
    for block in GPT(VOCAB, small()).blocks:
        assert (block(x, None, None, None) - x).abs().max() > 0.01


def test_weights_start_with_the_stated_deviations() -> None:
    torch.manual_seed(0)
    for name, weight in GPT(100, small(block_size=100, n_embd=64, n_head=4)).named_parameters():
        expected = weight.size(1) ** -0.5 / (2 if name.endswith("proj.weight") else 1)  # 2 = sqrt(2 n_layer)
        assert weight.std().item() == pytest.approx(expected, rel=0.05), name


@pytest.mark.parametrize(("rotary", "positions"), [(False, BLOCK * WIDTH), (True, 0)])
def test_parameter_count(rotary: bool, positions: int) -> None:
    model = GPT(VOCAB, small(rotary=rotary))
    assert model.n_parameters() == 2 * VOCAB * WIDTH + positions + 12 * LAYERS * WIDTH**2


@plain_and_modern
def test_all_weights_are_matrices_and_none_a_bias(switches: dict[str, Any]) -> None:
    for name, weight in gpt(switches).named_parameters():
        assert weight.ndim == 2 and name.endswith(".weight"), name


@pytest.mark.parametrize(("n_embd", "n_head", "rotary"), [(10, 4, False), (10, 4, True), (12, 4, True)])
def test_sizes_that_do_not_fit_are_refused(n_embd: int, n_head: int, rotary: bool) -> None:
    with pytest.raises(ValueError, match=f"n_embd={n_embd}.*n_head={n_head}"):
        GPT(VOCAB, small(n_embd=n_embd, n_layer=1, n_head=n_head, rotary=rotary))


def test_odd_heads_fit_where_positions_are_learned() -> None:
    assert GPT(VOCAB, small(n_embd=12, n_layer=1, n_head=4))(tokens(1, BLOCK)).shape == (1, BLOCK, VOCAB)


def test_cross_entropy_is_a_sum_in_nats() -> None:
    logits = torch.tensor([[[1.0, 3.0], [2.0, 2.0]], [[1.0, 1.0], [3.0, 1.0]]]).log()
    loss = cross_entropy(logits, torch.tensor([[1, 0], [0, 1]]))
    assert loss.item() == pytest.approx(math.log(4 / 3) + 2 * math.log(2) + math.log(4))


def test_cross_entropy_ignores_padding() -> None:
    logits = torch.randn(2, 3, VOCAB)
    targets = torch.tensor([[4, 2, -1], [7, -1, -1]])
    expected = cross_entropy(logits[:1, :2], targets[:1, :2]) + cross_entropy(logits[1:, :1], targets[1:, :1])
    assert cross_entropy(logits, targets).item() == pytest.approx(expected.item())
    assert cross_entropy(logits, torch.full((2, 3), -1)).item() == 0


@plain_and_modern
def test_the_first_loss_is_near_that_of_the_uniform_distribution(switches: dict[str, Any]) -> None:
    """Logits of variance 1 raise the loss of equal logits by half a nat; the blocks of the plain model add more."""
    torch.manual_seed(0)
    model = GPT(64, small(block_size=16, n_embd=64, n_head=4, **switches))
    idx, targets = torch.randint(64, (2, 64, 16))
    assert 0 < cross_entropy(model(idx), targets).item() / targets.numel() - math.log(64) < 1
