"""A model with its tokenizer and mode: all that is needed to continue a prompt."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from microgpt.config.schema import SamplingConfig
from microgpt.data.modes import Mode
from microgpt.data.tokenizer import Tokenizer
from microgpt.model.generation import generate, random_draws, stream
from microgpt.model.transformer import GPT

SAMPLES_AT_ONCE = 250  # rows of a batch, to bound the memory of the key/value cache


@dataclass(frozen=True)
class TextGenerator:
    """Samples texts, not token ids, from a model."""

    model: GPT
    tokenizer: Tokenizer
    mode: Mode

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids of BOS and the prompt; in stream mode blank lines become BOS. Raises `UserError`."""
        prompt = unicodedata.normalize("NFC", prompt)  # the form that the corpus has
        ids = self.tokenizer.encode_documents(self.mode.prompt_parts(prompt), "prompt")
        return ids[:-1]  # without the BOS at the end

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, self.mode.bos_text)

    def options(self, sampling: SamplingConfig) -> dict[str, Any]:
        """The keyword arguments of `generate` and `stream` that follow from the settings and the mode."""
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
        """The texts of `generate`, one after the other, in pieces as they are sampled. A text ends with a newline."""
        draws = random_draws(sampling.n_samples, sampling.max_tokens, seed)
        for prompt in sampling.prompts:
            ids = self.prompt_ids(prompt)
            for row in draws.split(1):
                yield prompt
                for ((_, token),) in stream(self.model, ids, row, **self.options(sampling)):  # one sample, so one pair
                    yield self.decode([token])
                yield "\n"
