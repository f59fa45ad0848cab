"""A run opened from its directory: its text generator, its config, and the data that it was trained on."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from microgpt.config.checks import parse
from microgpt.config.free_text import escape
from microgpt.config.program import relative
from microgpt.config.registry import CHECKPOINTS
from microgpt.config.schema import Config, DatasetConfig, SamplingConfig
from microgpt.data.loading import Data, load_data
from microgpt.data.modes import find_mode
from microgpt.data.normalisation import Normaliser
from microgpt.errors import UserError
from microgpt.model.text_generator import TextGenerator
from microgpt.runs.contents import read_contents
from microgpt.runs.directory import PLACES, read_config


@dataclass(frozen=True)
class OpenRun:
    """A trained run: the text generator with its best or last weights, and its config.

    `corpus` is the fingerprint of its corpus; None for a run of gpt.py.
    """

    folder: Path
    generator: TextGenerator
    config: Config
    corpus: str | None

    @property
    def title(self) -> str:
        """The last two parts of the path of `folder`, for figures and reports."""
        return "/".join(self.folder.resolve().parts[-2:])

    @property
    def dataset(self) -> DatasetConfig:
        """The corpus, where `config.yaml` says that it is: it may have moved since the checkpoint was saved."""
        with suppress(UserError):
            now = read_config(self.folder).dataset
            names = [key.partition(".")[2] for key in PLACES]
            return replace(self.config.dataset, **{name: getattr(now, name) for name in names})
        return self.config.dataset

    def sampling(self, given: Mapping[str, Any]) -> SamplingConfig:
        """The settings of sampling in `given`; those that are missing or None are as in the run. Raises `UserError`."""
        chosen = {name: value for name, value in given.items() if value is not None}
        return parse(escape(asdict(self.config.sampling) | chosen), SamplingConfig)

    def load_data(self, key: str, datasets_dir: str = "") -> Data:
        """The data of the run, split as in its training. Raises `UserError` about `key` if the corpus has changed."""
        name = f"{key}={relative(self.folder)}"
        if self.corpus is None:
            raise UserError(f"{name}: a run of gpt.py does not say what it held out; take a run of microgpt")
        data = load_data(self.dataset, self.config.seed, Path(datasets_dir or self.config.datasets_dir))
        check_corpus(data, self.corpus, name, "leave it out, or train a new run")
        return data


def check_corpus(data: Data, fingerprint: str, name: str, hint: str) -> None:
    """Raise `UserError` about the run `name` if the corpus in `data` does not have this fingerprint."""
    if data.corpus.fingerprint != fingerprint:
        raise UserError(
            f"{name}: the corpus is not the one that the run was trained on (a changed file, or for"
            f" dataset=python_docs another version of Python); {hint}"
        )


def open_run(folder: Path, which: str, device: torch.device) -> OpenRun:
    """The run in `folder` with its `best` or `last` weights (`which`) on `device`. Raises `UserError`."""
    contents = read_contents(folder / CHECKPOINTS[which])
    config = contents.config
    mode = find_mode(config.dataset.mode, config.dataset.document, config.dataset.strip)
    generator = TextGenerator(contents.model.to(device), contents.tokenizer, mode, Normaliser.of(config.dataset))
    return OpenRun(folder, generator, config, contents.corpus)
