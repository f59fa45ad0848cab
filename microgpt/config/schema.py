"""The schema of all settings: plain dataclasses with the meaning, unit, range and choices of each.

It imports neither torch nor Hydra, so that `--help` is fast and each part of the library can import its own dataclass.
"""

import math
import shlex
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any

from microgpt.config.registry import ACTIVATIONS, DEVICES, MODES, OPTIMIZERS, READERS, SCHEDULES

REQUIRED: Any = "???"  # the value of a setting that must be given: OmegaConf's marker for a missing value


def key(
    default: Any,
    doc: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: Any = None,
    example: str = "",
    free_text: bool = False,
    may_be_empty: bool = False,
) -> Any:
    """The dataclass field of a setting: its meaning and unit, and its values, from `low` to `high` or among `choices`.

    `example` is a value that the error message for a missing REQUIRED setting suggests. The value of a `free_text`
    setting is used exactly as it is typed: quotes, commas and brackets have no special meaning in it. It is a path,
    which is never empty, unless it `may_be_empty`.
    """
    metadata = {"doc": doc, "low": low, "high": high, "choices": choices, "example": example}
    metadata |= {"free_text": free_text, "may_be_empty": may_be_empty}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class DatasetConfig:
    name: str = key(REQUIRED, "names the corpus, and the folder of its runs", example="colors")
    note: str = key("", "what it holds and what is normalised or dropped")
    licence: str = key("", "of the corpus, for the card of an exported model", free_text=True, may_be_empty=True)
    mode: str = key("discrete", "separate documents, or one running text", choices=MODES)
    reader: str = key("text", "how the file is read", choices=READERS)
    column: str | None = key(
        None, "the column of a table, or the key in JSON lines, that holds the text", free_text=True
    )
    delimiter: str | None = key(
        None, "the character between the columns of a table (\\t: tab); null: the one that fits", free_text=True
    )
    path: Any = key(None, "a file, a folder, a pattern (texts/*.txt), or several: [a.txt,b.txt]", free_text=True)
    encoding: str = key(
        "utf-8", "encoding of the file, as Python names it (cp1252, gb18030), unless it begins with a byte order mark"
    )
    document: str = key(
        "auto",
        "what a document is: a line, a record (blank lines between them), whole (a field, a value, a file), or the"
        " separator between them (as in '\\n>' for FASTA); auto: line, in a stream record",
        free_text=True,
    )
    url: str | None = key(None, "where the file is downloaded from")
    sha256: str | None = key(None, "checksum of the downloaded file")
    file: str | None = key(None, "name of the downloaded file in datasets_dir")
    normalize: str = key("NFC", "the normal form of Unicode", choices=["NFC", "NFD", "NFKC", "NFKD", "none"])
    lowercase: bool = key(False, "lower-case the text")
    replace: dict[str, str] = key({}, "characters or strings to replace, and by what", free_text=True)
    min_count: int = key(
        1, "drop characters that occur less often (in discrete mode, their documents)", low=1, high=10**9
    )
    strip: str = key(
        "auto",
        "remove spaces and tabs at both ends of lines, or on the right; auto: both where each line is a document",
        choices=["auto", "both", "right", "none"],
    )
    limit: int = key(0, "read about so many characters, to the end of a document; 0: all", low=0, high=10**15)
    shuffle: bool = key(False, "stream: shuffle the documents before the split, for collections")
    pack: bool = key(True, "discrete: several documents in a row, where they fit (no attention between them)")


@dataclass
class ModelConfig:
    n_embd: int = key(64, "width: channels of the residual stream", low=1, high=10**6)
    n_layer: int = key(2, "depth: number of blocks", low=1, high=10**4)
    n_head: int = key(4, "attention heads in a block; divides n_embd", low=1, high=10**6)
    block_size: int = key(32, "context: the most tokens that the model sees at once", low=1, high=10**9)
    rotary: bool = key(False, "rotary positions in place of learned ones")
    qk_norm: bool = key(False, "RMSNorm on queries and keys")
    activation: str = key("relu", "activation of the MLP", choices=ACTIVATIONS)
    zero_init: bool = key(False, "output projections start at zero")
    final_norm: bool = key(False, "RMSNorm before the head")
    ngrams: int = key(
        0, "the longest n-grams whose embeddings are added to the token's, from 2 on; 0: none", low=0, high=64
    )
    ngram_rows: int = key(65_536, "rows of the table of n-gram embeddings of each length (hashed)", low=1, high=2**31)
    ngram_dropout: float = key(0.0, "probability with which training leaves out an n-gram embedding", low=0, high=0.99)
    dropout: float = key(0.0, "dropout on the embedding and on what attention and MLP add", low=0, high=0.99)


@dataclass
class OptimConfig:
    name: str = key(
        "muon", "Muon for the blocks' matrices and AdamW for the rest, or one optimizer for all", choices=OPTIMIZERS
    )
    lr: float = key(0.02, "peak learning rate", low=0, high=1000)
    adam_lr: float = key(0.003, "peak learning rate of the weights that Muon leaves to AdamW", low=0, high=1000)
    ngram_lr: float = key(0.002, "peak learning rate of the n-gram embeddings (model.ngrams)", low=0, high=1000)
    betas: list[float] = key([0.9, 0.95], "Adam: decay of the averages of the gradient and of its square")
    eps: float = key(1e-8, "Adam: added to the denominator, so that it is never 0", low=1e-20, high=1)
    momentum: float = key(0.95, "Muon: decay of the average of the gradient", low=0, high=0.9999)
    weight_decay: float = key(
        0.1,
        "each step shrinks the weights by this times the learning rate; adam adds it to the gradient instead",
        low=0,
        high=1000,
    )
    schedule: str = key("linear", "the learning rate after the warm-up", choices=SCHEDULES)
    warmup_steps: int = key(0, "steps in which the learning rate rises", low=0, high=10**9)
    final_fraction: float = key(0.0, "the learning rate ends at this fraction of its peak", low=0, high=1)
    clip_grad: float = key(
        1.0, "the gradient is scaled down to this norm if its norm is larger; 0: never", low=0, high=10**9
    )


@dataclass
class TrainConfig:
    steps: int = key(1000, "optimizer steps", low=1, high=10**9)
    batch_size: int = key(32, "rows of block_size tokens in a step", low=1, high=10**9)
    grad_accum: int = key(1, "parts in which a batch is computed, to save memory", low=1, high=10**9)
    val_every: int = key(100, "steps between validations and checkpoints", low=1, high=10**9)
    val_tokens: int = key(50_000, "validation tokens during training (the final losses use all)", low=1, high=10**12)
    log_every: int = key(10, "steps between logged metrics; a long run logs at most 2,000 times", low=1, high=10**9)
    patience: int = key(0, "stop after so many validations without a new best; 0: never", low=0, high=10**9)
    ema_decay: float = key(
        0.0,
        "decay per step of a moving average of the weights (try 0.99), saved where it is the best; 0: no average",
        low=0,
        high=0.999999,
    )
    precision: str = key("fp32", "number format of the matrix products", choices=["fp32", "bf16"])
    compile: bool = key(False, "torch.compile the model, on a GPU (takes a while to start)")
    engine: str = key(
        "auto",
        "who computes the steps; tiny: compiled, for tiny plain models with Adam; auto: tiny where it is faster",
        choices=["auto", "torch", "tiny"],
    )
    profile: bool = key(False, "profile ten steps: a trace for Perfetto, and a table of the longest operations")
    threads: int = key(0, "CPU threads; 0: torch's default", low=0, high=1024)


@dataclass
class SamplingConfig:
    n_samples: int = key(10, "samples for each prompt", low=1, high=10**9)
    max_tokens: int = key(64, "the most tokens of a sample", low=1, high=10**12)
    temperature: float = key(0.8, "below 1 safer, above 1 wilder, 0 always the likeliest", low=0, high=1000)
    top_k: int = key(0, "draw among the k likeliest tokens; 0: all", low=0, high=10**9)
    top_p: float = key(1.0, "draw among the fewest likeliest tokens whose probabilities reach this sum", low=0, high=1)
    one_document: bool = key(
        False, "of a stream: end a sample at the end of its document, as samples of other corpora do"
    )
    stream: bool = key(False, "print samples while they are drawn, one after the other")
    prompts: list[str] = key([""], "texts to continue", free_text=True)


@dataclass
class InsightConfig:
    baselines: bool = key(True, "losses of n-gram models, from uniform to 5-grams, beside those of the run")
    novelty: int = key(200, "samples drawn at a validation to measure how many are new; 0: none", low=0, high=10**4)
    over_time: bool = key(True, "samples from the same random draws at steps 0, 1, 2, 4, 8, …")
    layers: bool = key(False, "layer statistics at validations: norms of weights, gradients and activations")
    embeddings: bool = key(False, "the characters' embeddings, in TensorBoard's projector and as a figure")
    attention: bool = key(False, "attention maps of each head on a document of the corpus, as a figure")


@dataclass
class RunConfig:
    name: str = key("", "a name of the run, for summaries", free_text=True, may_be_empty=True)
    tags: list[str] = key([], "words by which runs are grouped, for summaries", free_text=True, may_be_empty=True)
    note: str = key("", "what the run is for, for summaries", free_text=True, may_be_empty=True)


@dataclass
class LoggerConfig:
    tensorboard: bool = key(True, "write TensorBoard's event file; metrics.csv is written in any case")
    wandb: bool = key(False, "log to Weights & Biases as well")
    mlflow: bool = key(False, "log to MLflow as well")
    project: str = key("microgpt", "project of Weights & Biases, or experiment of MLflow", free_text=True)
    wandb_mode: str = key("offline", "offline writes files, for `wandb sync`", choices=["offline", "online"])
    mlflow_uri: str | None = key(None, "MLflow's store or server; null: the folder mlruns", free_text=True)


@dataclass
class Config:
    """All settings of a run."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    insight: InsightConfig = field(default_factory=InsightConfig)
    run: RunConfig = field(default_factory=RunConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    seed: int = key(1337, "random seed of the split, the weights, the batches and the samples", low=0, high=2**31 - 1)
    device: str = key("auto", "where to compute", choices=DEVICES)
    datasets_dir: str = key("datasets", "folder of the downloaded corpora", free_text=True)
    resume: str | None = key(None, "the directory of a run or a sweep to resume, or latest", free_text=True)
    plot: Any = key(
        True, "draw loss.png; live: also show it in a window during training", choices=[True, False, "live"]
    )


def settings(schema: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Pairs of each key of a schema, as users type it (`model.n_embd`), and its field."""
    for f in fields(schema):
        if is_dataclass(f.type):
            yield from settings(f.type, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, f


def show(value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def typed(name: str, value: Any) -> str:
    """A setting as it is typed in a shell: `dataset.path='my file.txt'`."""
    return f"{name}={shlex.quote(show(value))}"


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as `{"model.n_embd": 64, …}`; lists and empty dictionaries are values."""
    if not isinstance(tree, dict) or not tree:
        return {prefix[:-1]: tree}  # without the last dot
    return {key: value for name, node in tree.items() for key, value in flatten(node, f"{prefix}{name}.").items()}
