"""A model with its tokenizer and mode: all that is needed to continue a prompt. And how samples are laid out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from microgpt.config.schema import SamplingConfig
from microgpt.data.documents import INDENT, indented, show_ends
from microgpt.data.modes import Mode
from microgpt.data.normalisation import Normaliser
from microgpt.data.tokenizer import Tokenizer
from microgpt.model.generation import generate, random_draws, stream
from microgpt.model.transformer import GPT

SAMPLES_AT_ONCE = 250  # rows of a batch, to bound the memory of the key/value cache


@dataclass(frozen=True)
class TextGenerator:
    """Samples texts, not token ids, from a model; `normaliser` is that of the corpus."""

    model: GPT
    tokenizer: Tokenizer
    mode: Mode
    normaliser: Normaliser = field(default_factory=Normaliser)

    def normalise(self, text: str) -> str:
        """A text that was typed, normalised as the corpus was.

        If the corpus has no capitals, and so more of the characters are known, it is in lower case as well.
        """
        chars = self.tokenizer.chars
        normalised = self.normaliser(text)
        if chars != chars.lower():
            return normalised
        lower = replace(self.normaliser, lowercase=True)(text)
        return min(normalised, lower, key=lambda text: len(set(text).difference(chars)))

    def prompt(self, prompt: str) -> str:
        """A prompt as the model reads it: normalised, and without a separator before it."""
        return self.mode.division.without_separator(self.normalise(prompt))

    def prompt_ids(self, prompt: str) -> list[int]:
        """The ids of BOS and a prompt as it was typed; in stream mode separators become BOS. Raises `UserError`."""
        return self.normalised_ids(self.prompt(prompt))

    def normalised_ids(self, prompt: str) -> list[int]:
        """The ids of BOS and a prompt that is normalised already."""
        return self.tokenizer.encode_documents(self.mode.prompt_parts(prompt), "prompt")[:-1]  # without the last BOS

    def notes(self, prompts: Sequence[str]) -> list[str]:
        """A line about each prompt that normalisation changes. Raises `UserError` for an unknown character."""
        for prompt in prompts:
            self.prompt_ids(prompt)
        read = {prompt: self.prompt(prompt) for prompt in prompts}
        return [
            f"note: the prompt {prompt!r} is read as {text!r}, since the corpus was normalised so"
            for prompt, text in read.items()
            if text != prompt
        ]

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, self.mode.bos_text)

    def options(self, sampling: SamplingConfig) -> dict[str, Any]:
        """The keyword arguments of `generate` and `stream` that follow from the settings and the mode."""
        return {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "stop": self.tokenizer.bos if sampling.one_document else self.mode.stop_token(self.tokenizer),
        }

    def generate(self, sampling: SamplingConfig, seed: int) -> list[str]:
        """`n_samples` texts for each prompt, the prompt included. Raises `UserError` for an unknown character."""
        draws = random_draws(sampling.n_samples, sampling.max_tokens, seed)
        texts = []
        for prompt in map(self.prompt, sampling.prompts):
            for part in draws.split(SAMPLES_AT_ONCE):
                samples = generate(self.model, self.normalised_ids(prompt), part, **self.options(sampling))
                texts += [prompt + self.decode(ids) for ids in samples]
        return texts

    def stream(self, sampling: SamplingConfig, seed: int) -> Iterator[str]:
        """The texts of `generate`, laid out by `lay_out`, one after the other, in pieces as they are sampled."""
        draws = random_draws(sampling.n_samples, sampling.max_tokens, seed)
        several, number = self.is_indented(sampling), 0
        for prompt in map(self.prompt, sampling.prompts):
            ids = self.normalised_ids(prompt)
            for row in draws.split(1):
                number += 1
                yield indented(prompt) if several else show_ends(prompt)
                for ((_, token),) in stream(self.model, ids, row, **self.options(sampling)):  # one sample, so one pair
                    piece = self.decode([token])
                    yield indented(piece).removeprefix(INDENT) if several else show_ends(piece)
                yield f"\n{end_of(number)}\n" if several else "\n"

    def is_indented(self, sampling: SamplingConfig) -> bool:
        """Whether several samples are printed that may hold newlines: their lines are then indented."""
        return not self.mode.one_line and len(sampling.prompts) * sampling.n_samples > 1

    def lay_out(self, texts: Sequence[str], sampling: SamplingConfig) -> str:
        """All texts of `generate`, so that each can be told from the next whatever they hold."""
        if self.is_indented(sampling):
            return "\n".join(f"{indented(text)}\n{end_of(number)}" for number, text in enumerate(texts, 1))
        return "\n".join(map(show_ends, texts))


def end_of(number: int) -> str:
    return f"[end of sample {number}]"
