"""The typed schema of every setting, with its meaning, unit and range, and the checks that YAML cannot do.

Imports no torch, so that `--help` and `--cfg` answer at once.
"""

import difflib
import math
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from microgpt.datasets import READERS
from microgpt.errors import UserError, user_error_behind


def key(default: Any, doc: str, *, low: float = -math.inf, high: float = math.inf, choices: Any = None) -> Any:
    """A setting: what it means, in which unit, and the values from `low` to `high`, or among `choices`."""
    about = {"doc": doc, "low": low, "high": high, "choices": choices}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: default.copy(), metadata=about)
    return field(default=default, metadata=about)


@dataclass
class Dataset:
    name: str = key("???", "names the corpus, and the folder of its runs")
    note: str = key("", "what it holds and what is normalised or dropped")
    mode: str = key("discrete", "documents of their own, or one running text", choices=["discrete", "stream"])
    reader: str = key("text", "how the file is read", choices=READERS)
    column: str | None = key(None, "the column of a CSV file that holds the text")
    path: str | None = key(None, "a file of your own (UTF-8 text, CSV or ZIP)")
    url: str | None = key(None, "where the file is downloaded from")
    sha256: str | None = key(None, "checksum of the downloaded file")
    file: str | None = key(None, "name of the downloaded file in datasets_dir")
    lowercase: bool = key(False, "lower-case the text")
    replace: dict[str, str] = key({}, "characters or strings to replace, and by what")
    min_count: int = key(1, "drop characters that occur less often (in discrete mode, their documents)", low=1)
    pack: bool = key(True, "discrete: several documents in a row, where they fit (they do not see each other)")


@dataclass
class Model:
    n_embd: int = key(64, "width: channels of the residual stream", low=1)
    n_layer: int = key(2, "depth: number of blocks", low=1)
    n_head: int = key(4, "attention heads in a block; divides n_embd", low=1)
    block_size: int = key(32, "context: the most tokens that the model sees at once", low=1)
    rotary: bool = key(False, "rotary positions in place of learned ones")
    qk_norm: bool = key(False, "RMSNorm on queries and keys")
    activation: str = key("relu", "of the MLP", choices=["relu", "relu_squared", "gelu"])
    zero_init: bool = key(False, "output projections start at zero")
    final_norm: bool = key(False, "RMSNorm before the head")


@dataclass
class Optim:
    name: str = key(
        "muon",
        "Muon for the blocks' matrices and AdamW for the rest, or one for all",
        choices=["adam", "adamw", "muon"],
    )
    lr: float = key(0.02, "peak learning rate", low=0)
    adam_lr: float = key(0.003, "peak learning rate of what Muon leaves to AdamW", low=0)
    betas: list[float] = key([0.9, 0.95], "Adam: decay of the averages of the gradient and of its square")
    eps: float = key(1e-8, "Adam: keeps the division finite", low=0)
    momentum: float = key(0.95, "Muon: decay of the average of the gradient", low=0, high=1)
    weight_decay: float = key(0.1, "pull of the weights to zero, times the learning rate", low=0)
    schedule: str = key("linear", "the learning rate after the warm-up", choices=["linear", "cosine", "constant"])
    warmup_steps: int = key(0, "steps in which the learning rate rises", low=0)
    final_fraction: float = key(0.0, "of the peak, what the learning rate falls to", low=0, high=1)
    clip_grad: float = key(1.0, "bound on the norm of the gradient; 0: none", low=0)


@dataclass
class Train:
    steps: int = key(1000, "optimizer steps", low=1)
    batch_size: int = key(32, "rows of block_size tokens in a step", low=1)
    grad_accum: int = key(1, "parts in which a batch is computed, to save memory", low=1)
    val_every: int = key(100, "steps between validations and checkpoints", low=1)
    val_tokens: int = key(50_000, "validation tokens on the way (the final figures use all)", low=1)
    log_every: int = key(10, "steps between logged figures", low=1)
    patience: int = key(0, "validations without a new best after which to stop; 0: never", low=0)
    precision: str = key("fp32", "of the matrix products", choices=["fp32", "bf16"])
    compile: bool = key(False, "torch.compile the model (needs a C++ compiler; takes a while to begin)")
    threads: int = key(0, "CPU threads; 0: as many as torch finds right", low=0)


@dataclass
class Sampling:
    n_samples: int = key(10, "samples for each prompt", low=1)
    max_tokens: int = key(64, "the most tokens of a sample", low=1)
    temperature: float = key(0.8, "below 1 safer, above 1 wilder, 0 always the likeliest", low=0)
    top_k: int = key(0, "draw among the k likeliest tokens; 0: all", low=0)
    top_p: float = key(1.0, "draw among the likeliest tokens that hold this probability", low=0, high=1)
    stream: bool = key(False, "show samples as they are drawn, one after the other")
    prompts: list[str] = key([""], "texts to continue")


@dataclass
class Insight:
    baselines: bool = key(True, "losses of counting models, from uniform to 5-grams, beside those of the run")
    novelty: int = key(200, "samples drawn at a validation to see how many are new; 0: none", low=0)
    over_time: bool = key(True, "samples from the same random draws at steps 0, 1, 2, 4, 8, …")
    layers: bool = key(False, "norms of weights and gradients and sizes of activations, by layer, at validations")
    embeddings: bool = key(False, "the characters' embeddings, in TensorBoard's projector and as a figure")
    attention: bool = key(False, "what each head attends to in a document of the corpus, as a figure")


@dataclass
class Config:
    dataset: Dataset = field(default_factory=Dataset)
    model: Model = field(default_factory=Model)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    sampling: Sampling = field(default_factory=Sampling)
    insight: Insight = field(default_factory=Insight)
    seed: int = key(1337, "of the split, the weights, the batches and the samples", low=0, high=2**31 - 1)
    device: str = key("auto", "where to compute", choices=["auto", "cpu", "cuda", "mps"])
    datasets_dir: str = key("datasets", "where downloaded corpora are kept")
    resume: str | None = key(None, "the directory of a run to go on with, or latest")
    plot: Any = key(True, "draw loss.png; live: and a window as training goes", choices=[True, False, "live"])


@dataclass
class SampleConfig:
    run: str = key("???", "the directory of a run, or latest")
    prompt: str | None = key(None, "the text to continue (in place of sampling.prompts)")
    checkpoint: str = key("best", "which weights of the run", choices=["best", "last"])
    seed: int | None = key(None, "of the draws; the run's own if not given", low=0, high=2**31 - 1)
    device: str = key("auto", "where to compute", choices=["auto", "cpu", "cuda", "mps"])
    # As in the run where it is null; held to the types of Sampling once the run is known.
    sampling: dict[str, Any] = key({f.name: None for f in fields(Sampling)}, "how to sample")


def register() -> None:
    """Make the schemas known to Hydra, under the names that `conf/config.yaml` and `conf/sample.yaml` use."""
    store = ConfigStore.instance()
    store.store(name="base_config", node=Config)
    store.store(name="base_sample", node=SampleConfig)


def settings(node: Any = Config, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Each key of a schema as users type it (`model.n_embd`), and its field."""
    for f in fields(node):
        if is_dataclass(f.type):
            yield from settings(f.type, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, f


def describe(schema: Any = Config) -> str:
    """The keys of a schema, a line each: the part of --help that cannot fall behind the program."""
    lines = []
    keys = dict(settings(schema))
    if schema is SampleConfig:  # whose sampling is held to the types of Sampling later
        keys = {name: f for name, f in keys.items() if name != "sampling"} | dict(settings(Sampling, "sampling."))
    for name, f in keys.items():
        choices = f.metadata["choices"]
        note = f" ({', '.join(map(show, choices))})" if choices else ""
        lines.append(f"  {name:<24} {f.metadata['doc']}{note}")
    return "\n".join(lines)


def show(value: Any) -> str:
    """A value as it is typed on the command line."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def typed(config: Any, schema: type[Any] = Config) -> Any:
    """The config as an object of its schema, every value checked. Raises `UserError` for the first wrong one."""
    try:
        # From plain data: a node that Hydra has typed already would take any key that was added with `+`.
        plain = OmegaConf.to_container(config)
        merged = OmegaConf.merge(OmegaConf.structured(schema), plain)
        OmegaConf.resolve(merged)
    except (ConfigKeyError, ConfigAttributeError) as error:
        raise UserError(unknown_key(str(error.full_key), schema)) from None
    except OmegaConfBaseException as error:
        if behind := user_error_behind(error):  # raised inside a resolver
            raise behind from None
        reason = str(error.msg or error).splitlines()[0]
        raise UserError(f"{error.full_key}: {reason}; see --help for what it takes") from None
    for name, f in settings(schema):
        check_range(name, OmegaConf.select(merged, name, throw_on_missing=False), f)
    return OmegaConf.to_object(merged)


def unknown_key(name: str, schema: type[Any] = Config) -> str:
    """The message for a key that does not exist, with the one that was probably meant."""
    known = [known for known, _ in settings(schema)] + [f.name for f in fields(schema)] + ["experiment"]
    if schema is SampleConfig:
        known += [f"sampling.{f.name}" for f in fields(Sampling)]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"{name}: there is no such key" + (f"; did you mean {close[0]}?" if close else "; --help lists all")


def check_range(name: str, value: Any, f: Field[Any]) -> None:
    low, high, choices = f.metadata["low"], f.metadata["high"], f.metadata["choices"]
    fallback = None if f.default is MISSING else f.default
    hint = f"; the default is {name}={show(fallback)}" if fallback not in (None, "???") else ""
    if choices and not any(value is c or (not isinstance(c, bool) and value == c) for c in choices):
        close = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
        hint = f"; did you mean {name}={close[0]}?" if close else hint
        raise UserError(f"{name}={show(value)}: must be one of {', '.join(map(show, choices))}{hint}")
    if isinstance(value, int | float) and not isinstance(value, bool) and not low <= value <= high:
        limits = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise UserError(f"{name}={value}: must be {limits}{hint}")


def validate(config: Config) -> None:
    """What no single key can tell. Raises `UserError`."""
    model, dataset, optim = config.model, config.dataset, config.optim
    if model.n_embd % model.n_head:
        nearest = max(model.n_head, round(model.n_embd / model.n_head) * model.n_head)
        raise UserError(
            f"model.n_embd={model.n_embd}: not divisible by model.n_head={model.n_head}; try model.n_embd={nearest}"
        )
    if model.rotary and model.n_embd // model.n_head % 2:
        raise UserError(
            f"model.n_head={model.n_head}: rotary positions need heads of even width, not"
            f" {model.n_embd // model.n_head}; try model.n_embd={2 * model.n_head * (model.n_embd // model.n_head)}"
        )
    if len(optim.betas) != 2 or not all(0 <= beta < 1 for beta in optim.betas):
        raise UserError(f"optim.betas={optim.betas}: must be two numbers from 0 to below 1; try optim.betas=[0.9,0.95]")
    if config.train.grad_accum > config.train.batch_size:
        raise UserError(
            f"train.grad_accum={config.train.grad_accum}: more parts than the rows of a batch; at most"
            f" train.batch_size={config.train.batch_size}"
        )
    if optim.warmup_steps >= config.train.steps:
        raise UserError(f"optim.warmup_steps={optim.warmup_steps}: must be below train.steps={config.train.steps}")
    if not config.sampling.prompts:
        raise UserError('sampling.prompts=[]: needs at least one text; sampling.prompts=[""] begins from nothing')
    if dataset.name == "file" and not dataset.path:
        raise UserError("dataset.path: dataset=file needs a file; add dataset.path=my.txt")
    if dataset.reader == "csv" and not dataset.column:
        raise UserError("dataset.column: a CSV file needs the name of its text column; add dataset.column=text")
