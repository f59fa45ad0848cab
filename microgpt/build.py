"""From a config to the parts that it describes: corpus, rows, model, trainer. Each part gets its own few arguments."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from microgpt.batches import (
    Batches,
    DocumentBatches,
    Rows,
    StreamBatches,
    document_rows,
    split_documents,
    split_stream,
    stream_rows,
)
from microgpt.config import Config, Dataset
from microgpt.datasets import EMBEDDED_READERS, Corpus, fetch, read_corpus
from microgpt.errors import UserError
from microgpt.model import GPT
from microgpt.optim import build_optimizer, build_schedule
from microgpt.ranks import ALONE, Ranks
from microgpt.tokenizer import Tokenizer
from microgpt.trainer import Trainer


@dataclass(frozen=True)
class Data:
    """A corpus made ready for training: its tokenizer, its batches, all rows of its validation split."""

    corpus: Corpus
    tokenizer: Tokenizer
    batches: Batches
    val: Rows

    @property
    def bos_chars(self) -> int:
        return bos_chars(self.corpus.mode)


def bos_chars(mode: str) -> int:
    """How many characters of the raw text a BOS stands for: a newline, or a blank line."""
    return 1 if mode == "discrete" else 2


def cached_file(dataset: Dataset, folder: Path) -> Path | None:
    """Where the file of a corpus is or will be; None for an embedded one."""
    if dataset.reader in EMBEDDED_READERS:
        return None
    return Path(dataset.path).expanduser() if dataset.path else folder / str(dataset.file)


def load_corpus(dataset: Dataset, folder: Path) -> Corpus:
    """Fetch the corpus into `folder` if need be, and read it. Raises `UserError`."""
    path = cached_file(dataset, folder)
    if dataset.url and dataset.sha256 and dataset.file and not dataset.path:
        path = fetch(dataset.name, dataset.url, dataset.sha256, dataset.file, folder)
    return read_corpus(
        dataset.name,
        dataset.mode,
        reader=dataset.reader,
        path=path,
        column=dataset.column,
        lowercase=dataset.lowercase,
        replace=dataset.replace,
        min_count=dataset.min_count,
    )


def load_data(config: Config, device: torch.device) -> Data:
    """Corpus, split, tokens and rows of a config. Raises `UserError`."""
    corpus = load_corpus(config.dataset, Path(config.datasets_dir).expanduser())
    tokenizer = Tokenizer.of(corpus.documents)
    prepare = document_data if corpus.mode == "discrete" else stream_data
    batches, val = prepare(config, corpus, tokenizer, device)
    return Data(corpus, tokenizer, batches, val)


def document_data(config: Config, corpus: Corpus, tokenizer: Tokenizer, device: torch.device) -> tuple[Batches, Rows]:
    train, val = split_documents(corpus.documents, config.seed)
    block_size = config.model.block_size
    rows = document_rows(train, tokenizer, block_size, config.dataset.pack).to(device)
    val_rows = document_rows(val, tokenizer, block_size, pack=True).to(device)
    return DocumentBatches(rows, config.train.batch_size, config.seed), val_rows


def stream_data(config: Config, corpus: Corpus, tokenizer: Tokenizer, device: torch.device) -> tuple[Batches, Rows]:
    tokens = torch.tensor(tokenizer.encode_documents(corpus.documents), device=device)
    train, val = split_stream(tokens)
    block_size = config.model.block_size
    longest = min(len(train) // 2, len(val) - 1)
    if block_size > longest:
        raise UserError(
            f"model.block_size={block_size}: longer than the splits of dataset={corpus.name} bear"
            f" ({len(train):,} tokens of training, {len(val):,} of validation); try at most"
            f" model.block_size={longest}"
        )
    return StreamBatches(train, block_size, config.train.batch_size, config.seed), stream_rows(val, block_size)


def data_card(config: Config, corpus: Corpus) -> dict[str, str]:
    """What a corpus holds and how it is split; sizes in documents if it is discrete, in tokens if it is a stream."""
    documents, block_size = corpus.documents, config.model.block_size
    if corpus.mode == "discrete":
        train, val = map(len, split_documents(documents, config.seed))
    else:
        train, val = map(len, split_stream(torch.empty(sum(map(len, documents)) + len(documents) + 1)))
    fit = sum(len(document) < block_size for document in documents) / len(documents)
    return {
        "mode": corpus.mode,
        "documents" if corpus.mode == "discrete" else "paragraphs": f"{len(documents):,}",
        "duplicates": f"{corpus.duplicates:,}",
        "dropped": f"{corpus.dropped:,}",
        "train": f"{train:,}",
        "validation": f"{val:,}",
        "characters": f"{len(set().union(*documents))}",
        "longest": f"{max(map(len, documents)):,}",
        "fit a block": f"{fit:.1%}",
    }


def find_device(name: str, number: int | None = None) -> torch.device:
    """`auto` is cuda, else mps, else cpu; of several GPUs the `number`-th, counted round, if one is given.

    Raises `UserError` for a device that is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(kind for kind, is_there in there.items() if is_there) if name == "auto" else name
    if not there[kind]:
        raise UserError(f"device={name}: there is none on this machine; use device=auto or device=cpu")
    if kind == "cuda" and number is not None:
        return torch.device(kind, number % torch.cuda.device_count())
    return torch.device(kind)


def build_model(config: Config, vocab_size: int) -> GPT:
    return GPT(vocab_size, **asdict(config.model))


def build_trainer(
    config: Config,
    data: Data,
    device: torch.device,
    log: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
    after_validation: Callable[[bool], None] = lambda is_best: None,
    ranks: Ranks = ALONE,
) -> Trainer:
    """Model, optimizer and loop of a config; the weights are drawn from its seed."""
    torch.manual_seed(config.seed)
    model = build_model(config, data.tokenizer.vocab_size).to(device)
    optim, train = config.optim, config.train
    optimizer = build_optimizer(
        model,
        optim.name,
        lr=optim.lr,
        adam_lr=optim.adam_lr,
        betas=(optim.betas[0], optim.betas[1]),
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        momentum=optim.momentum,
    )
    return Trainer(
        model,
        optimizer,
        build_schedule(optim.schedule, train.steps, optim.warmup_steps, optim.final_fraction),
        data.batches,
        data.val.first_tokens(train.val_tokens),
        bos=data.tokenizer.bos,
        bos_chars=data.bos_chars,
        steps=train.steps,
        val_every=train.val_every,
        log_every=train.log_every,
        patience=train.patience,
        clip_grad=optim.clip_grad,
        grad_accum=train.grad_accum,
        bf16=train.precision == "bf16",
        use_compile=train.compile,
        ranks=ranks,
        log=log,
        after_validation=after_validation,
    )
