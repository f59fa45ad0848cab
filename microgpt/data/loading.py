"""A corpus ready for training: downloaded, read, encoded and split. A corpus is split only here."""

from dataclasses import dataclass
from pathlib import Path

import torch

from microgpt.config.checks import as_path
from microgpt.config.schema import DatasetConfig
from microgpt.data.batches import Batches, Rows
from microgpt.data.corpus import Corpus, fits_block, load_corpus
from microgpt.data.modes import Mode
from microgpt.data.splits import Split
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError

CPU = torch.device("cpu")
CHANGED = {"normalized": "lines", "lowercased": "lines", "replaced": "places", "stripped": "characters"}


@dataclass(frozen=True)
class Data:
    """A corpus, the tokenizer of its characters, and its training and validation split, drawn by `seed`."""

    corpus: Corpus
    tokenizer: Tokenizer
    train: Split
    val: Split
    seed: int

    @property
    def mode(self) -> Mode:
        return self.corpus.mode

    def check_block_size(self, block_size: int) -> None:
        """Raise `UserError` if a split has too few tokens for `block_size`."""
        longest = self.mode.longest_block(self.train, self.val)
        if longest is not None and block_size > longest:
            raise UserError(
                f"model.block_size={block_size}: longer than the splits of dataset={self.corpus.name} allow"
                f" ({self.train.size:,} tokens of training, {self.val.size:,} of validation); try at most"
                f" model.block_size={longest}"
            )

    def batches(self, block_size: int, batch_size: int, pack: bool = True, device: torch.device = CPU) -> Batches:
        """The training batches. Raises `UserError` if a split has too few tokens for `block_size`."""
        self.check_block_size(block_size)
        return self.mode.batches(self.train, block_size, batch_size, self.seed, pack, device)

    def val_rows(self, block_size: int, device: torch.device = CPU) -> Rows:
        """All rows of the validation split."""
        return self.mode.rows(self.val, block_size, device)

    def count_characters(self, rows: Rows) -> int:
        """The number of characters of raw text that the targets of `rows` represent; a BOS is `mode.bos_text`."""
        n_bos = int(torch.count_nonzero(rows.targets == self.tokenizer.bos))
        return rows.n_targets + (len(self.mode.bos_text) - 1) * n_bos

    def card(self, block_size: int) -> dict[str, str]:
        """The data card: sizes of the corpus and of its splits, name → text to print."""
        corpus = self.corpus
        return {
            "mode": self.mode.name,
            self.mode.unit: f"{corpus.n_documents:,}",
            "duplicates": f"{corpus.duplicates:,}",
            "dropped": f"{corpus.dropped:,}",
            **{kind: f"{n:,} {unit}" for kind, unit in CHANGED.items() if (n := corpus.changes.get(kind))},
            "train": f"{self.train.size:,}",
            "validation": f"{self.val.size:,}",
            "characters": f"{len(self.tokenizer.chars)}",
            "longest": f"{max(corpus.lengths):,}",
            "fit a block": f"{fits_block(corpus.lengths, block_size):.1%}",
        }


def load_data(dataset: DatasetConfig, seed: int, folder: Path) -> Data:
    """The corpus, downloaded into `folder` if it is not there yet, split by `seed`. Raises `UserError`."""
    corpus = load_corpus(dataset, as_path("datasets_dir", str(folder)))
    return Data(corpus, Tokenizer(corpus.encoded.chars), *corpus.mode.split(corpus, seed), seed)
