"""The content of a checkpoint, checked: a file can be whole and still not be what a run saved."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from microgpt.config.checks import parse_data
from microgpt.config.schema import Config
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError
from microgpt.model.transformer import GPT
from microgpt.runs import checkpoint
from microgpt.runs.callback import Progress


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds: the model with its weights (on the CPU), the tokenizer and the config of the run.

    `state` is all of it as plain data and tensors, as `checkpoint.save` takes it. `corpus` is the fingerprint of the
    corpus, and `progress` that of training: None in what `microgpt convert` makes.
    """

    state: dict[str, Any]
    config: Config
    tokenizer: Tokenizer
    model: GPT
    corpus: str | None
    progress: Progress | None


def read_contents(path: Path) -> Contents:
    """The content of the checkpoint `path`. Raises `UserError` for a damaged file, and for one of wrong content."""
    state = checkpoint.load(path)
    config = parse_data(state.get("config"), Config, path)
    try:
        tokenizer = Tokenizer(expect(state.get("tokenizer"), str, "tokenizer"))
        weights = expect(state.get("model"), dict, "model")
        check_sizes(weights, config, tokenizer)
        model = GPT(tokenizer.vocab_size, config.model)
        for name, others in other_weights(state).items():
            check_sizes(expect(others, dict, name), config, tokenizer)
            load_weights(model, others)
        load_weights(model, weights)
        corpus = None if "corpus" not in state else expect(state["corpus"], str, "corpus")
        progress = None if "progress" not in state else read_progress(state["progress"])
    except (ValueError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not the checkpoint of a run: {reason}; use another, or train the run again") from None
    return Contents(state, config, tokenizer, model, corpus, progress)


def expect(value: Any, kind: type, name: str) -> Any:
    """`value`. Raises `ValueError` if it is not of the type `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {'missing' if value is None else type(value).__name__}, not {kind.__name__}")
    return value


def check_sizes(weights: Mapping[str, Any], config: Config, tokenizer: Tokenizer) -> None:
    """Raise `ValueError` unless the weights are tensors of the sizes in `config`, before a model of these is built."""
    for name, weight in weights.items():
        expect(name, str, "the name of a weight")
        # Elements that are in memory once each: a few bytes can be expanded to a tensor of any size.
        if not (isinstance(weight, Tensor) and weight.dtype == torch.float32 and weight.is_contiguous()):
            raise ValueError(f"{name} is no tensor of float32")
    rows, width = expect(weights.get("token_embedding.weight"), Tensor, "token_embedding.weight").shape
    n_layer = len({str(name).split(".")[1] for name in weights if str(name).startswith("blocks.")})
    sizes = {"n_embd": (width, config.model.n_embd), "n_layer": (n_layer, config.model.n_layer)}
    sizes["vocab_size"] = (rows, tokenizer.vocab_size)
    if not config.model.rotary:
        positions = expect(weights.get("position_embedding.weight"), Tensor, "position_embedding.weight")
        sizes["block_size"] = (len(positions), config.model.block_size)
    if config.model.ngrams > 1:
        table = expect(weights.get("ngram_embedding.weight"), Tensor, "ngram_embedding.weight")
        sizes["ngram_rows"] = (len(table), (config.model.ngrams - 1) * config.model.ngram_rows)
    for name, (found, expected) in sizes.items():
        if found != expected:
            raise ValueError(f"its weights have {name}={found}, its config has {expected}")


def load_weights(model: GPT, weights: Mapping[str, Tensor]) -> None:
    """Load the weights. Raises `ValueError` if one is missing, unknown, of another shape, or not finite."""
    expected = model.state_dict()
    for name in dict.fromkeys([*expected, *weights]):
        if name not in weights or name not in expected:
            raise ValueError(f"{name} is {'unknown' if name in weights else 'missing'}")
        if weights[name].shape != expected[name].shape:
            raise ValueError(f"{name} is {tuple(weights[name].shape)}, not {tuple(expected[name].shape)}")
        if not weights[name].isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite")
    model.load_state_dict(dict(weights))


def other_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """The weights beside `model` that a run with an average has saved. Raises `ValueError` for a wrong average."""
    others = {"raw_model": state["raw_model"]} if "raw_model" in state else {}
    if "average" in state:
        average = expect(state["average"], dict, "average")
        expect(average.get("is_best"), bool, "is_best of the average")
        others["average"] = average.get("weights")
    return others


def read_progress(values: Any) -> Progress:
    """The progress of a run. Raises `ValueError` for an unknown, missing, negative or wrongly typed value."""
    expect(values, dict, "progress")
    if values.keys() != {f.name for f in fields(Progress)}:
        raise ValueError(f"progress holds {reprlib.repr(list(values))}")
    for f in fields(Progress):
        value = values[f.name]
        kinds = (int,) if f.type is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or value < 0 or (f.type is int and value >= 2**63):
            raise ValueError(f"progress has {f.name}={reprlib.repr(value)}")
    return Progress(**values)
