"""What a trained run writes: its model opened from its directory, prompts continued as text."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from microgpt import checkpoint
from microgpt.build import bos_chars, build_model
from microgpt.config import Config, Sampling, typed
from microgpt.generate import generate, random_draws, stream
from microgpt.model import GPT
from microgpt.runs import BEST, LAST
from microgpt.tokenizer import Tokenizer

AT_ONCE = 250  # samples; each needs a cache of its own


@dataclass(frozen=True)
class Writer:
    """A model, and how its tokens are read and written: all that turns a prompt into text."""

    model: GPT
    tokenizer: Tokenizer
    mode: str

    def prompt_ids(self, prompt: str) -> list[int]:
        """BOS and the prompt; in stream mode a blank line is a BOS as well. Raises `UserError`."""
        prompt = unicodedata.normalize("NFC", prompt)  # as the corpus was
        parts = re.split(r"\n{2,}", prompt) if self.mode == "stream" else [prompt]
        return self.tokenizer.encode_documents(parts, "prompt")[:-1]

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, "\n" * bos_chars(self.mode))

    def how(self, sampling: Sampling) -> dict[str, Any]:
        return {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "stop": self.tokenizer.bos if self.mode == "discrete" else None,
        }


def draw_texts(writer: Writer, sampling: Sampling, seed: int) -> list[str]:
    """`n_samples` texts for each prompt, the prompt included. Raises `UserError` for an unknown character."""
    draws = random_draws(sampling.n_samples, sampling.max_tokens, seed)
    texts = []
    for prompt in sampling.prompts:
        for part in draws.split(AT_ONCE):
            samples = generate(writer.model, writer.prompt_ids(prompt), part, **writer.how(sampling))
            texts += [prompt + writer.text(ids) for ids in samples]
    return texts


def stream_texts(writer: Writer, sampling: Sampling, seed: int) -> Iterator[str]:
    """The texts of `draw_texts`, one after the other, in pieces as they are drawn; each ends with a newline."""
    draws = random_draws(sampling.n_samples, sampling.max_tokens, seed)
    for prompt in sampling.prompts:
        ids = writer.prompt_ids(prompt)
        for row in draws.split(1):
            yield prompt
            for ((_, token),) in stream(writer.model, ids, row, **writer.how(sampling)):
                yield writer.text([token])
            yield "\n"


def open_run(folder: Path, which: str, device: torch.device) -> tuple[Writer, Config]:
    """The `best` or `last` model of a run, from nothing but its directory. Raises `UserError`."""
    state = checkpoint.load(folder / {"best": BEST, "last": LAST}[which])
    config: Config = typed(OmegaConf.create(state["config"]))
    tokenizer = Tokenizer(state["tokenizer"])
    model = build_model(config, tokenizer.vocab_size)
    model.load_state_dict(state["model"])
    return Writer(model.to(device), tokenizer, config.dataset.mode), config
