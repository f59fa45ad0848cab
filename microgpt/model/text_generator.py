"""A model with its tokenizer and mode: all that turns a prompt into text."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from microgpt.config.schema import SamplingConfig
from microgpt.data.modes import Mode
from microgpt.data.tokenizer import Tokenizer
from microgpt.model.generation import generate, random_draws, stream
from microgpt.model.transformer import GPT

SAMPLES_AT_ONCE = 250  # each needs a key/value cache of its own


@dataclass(frozen=True)
class TextGenerator:
    model: GPT
    tokenizer: Tokenizer
    mode: Mode

    def prompt_ids(self, prompt: str) -> list[int]:
        """BOS and the prompt; in stream mode a blank line is a BOS as well. Raises `UserError`."""
        prompt = unicodedata.normalize("NFC", prompt)  # as the corpus was
        return self.tokenizer.encode_documents(self.mode.prompt_parts(prompt), "prompt")[:-1]

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, self.mode.bos_text)

    def options(self, sampling: SamplingConfig) -> dict[str, Any]:
        """The arguments that `generate` and `stream` take from the settings and the mode."""
        return {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "stop": self.mode.stop_token(self.tokenizer),
        }

    def generate(self, sampling: SamplingConfig, seed: int) -> list[str]:
        """`n_samples` texts for each prompt, the prompt included. Raises `UserError` for an unknown character."""
        draws = random_draws(sampling.n_samples, sampling.max_tokens, seed)
        texts = []
        for prompt in sampling.prompts:
            for part in draws.split(SAMPLES_AT_ONCE):
                samples = generate(self.model, self.prompt_ids(prompt), part, **self.options(sampling))
                texts += [prompt + self.decode(ids) for ids in samples]
        return texts

    def stream(self, sampling: SamplingConfig, seed: int) -> Iterator[str]:
        """The texts of `generate`, one after the other, in pieces as they are drawn; each ends with a newline."""
        draws = random_draws(sampling.n_samples, sampling.max_tokens, seed)
        for prompt in sampling.prompts:
            ids = self.prompt_ids(prompt)
            for row in draws.split(1):
                yield prompt
                for ((_, token),) in stream(self.model, ids, row, **self.options(sampling)):
                    yield self.decode([token])
                yield "\n"
