"""All that a page holds about a run, as plain data for its scripts: the model, how it samples, what was measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml

from microgpt.config.program import program, relative
from microgpt.config.schema import Config, SamplingConfig, typed
from microgpt.data.loading import Data
from microgpt.data.splits import DocumentSplit
from microgpt.errors import UserError
from microgpt.insight.baselines import NAMES, verdict
from microgpt.insight.novelty import build_novelty
from microgpt.insight.samples_over_time import read_samples
from microgpt.model.text_generator import TextGenerator
from microgpt.page.documents import BITS_PER_DOCUMENT, filter_of
from microgpt.page.fidelity import compare, fewest_bits
from microgpt.page.weights import Packed, pack_model, with_packed
from microgpt.runs.directory import read_result
from microgpt.runs.export import without_paths
from microgpt.runs.metrics import Series, read_metrics
from microgpt.runs.opening import OpenRun

ACTIVATIONS = ("relu", "relu_squared", "gelu")  # that gpt.js computes
CURVES = ("train/loss", "train/loss_ema", "val/loss")
MAX_POINTS = 400  # of a curve
MAX_REFERENCE_TOKENS = 1000  # of a sample that the page draws again, to compare it with that of sample.py
MAX_REFERENCE_SAMPLES = 10
MODEL_KEYS = ("n_embd", "n_layer", "n_head", "block_size", "rotary", "qk_norm", "activation", "final_norm")
MODEL_KEYS += ("ngrams", "ngram_rows")


@dataclass(frozen=True)
class PageRun:
    """A run for a page: its weights as they are packed, and its data if the corpus is at hand."""

    run: OpenRun
    name: str
    packed: dict[str, Packed]
    data: Data | None

    @property
    def n_bytes(self) -> int:
        """The size of the weights and of the known documents in the page, in bytes."""
        splits = [self.data.train, self.data.val] if self.data else []
        n_documents = sum(split.size for split in splits if isinstance(split, DocumentSplit))
        # Base64 takes four characters for three bytes.
        return sum(matrix.n_bytes for matrix in self.packed.values()) + n_documents * BITS_PER_DOCUMENT // 6

    def as_json(self) -> dict[str, Any]:
        run, config = self.run, self.run.config
        return {
            "name": self.name,
            "dataset": config.dataset.name,
            "note": config.dataset.note,
            "folder": str(relative(run.folder.absolute())),
            "parameters": run.generator.model.n_parameters(),
            "config": {key: getattr(config.model, key) for key in MODEL_KEYS},
            "weights": {name: matrix.as_json() for name, matrix in self.packed.items()},
            "text": text_settings(run.generator),
            "sampling": asdict(config.sampling) | {"prompts": [], "prompt": config.sampling.prompts[0]},
            "seed": config.seed,
            "reference": reference(run.generator, config.sampling, config.seed),
            "yaml": yaml.safe_dump(asdict(without_paths(config)), sort_keys=False, allow_unicode=True),
            "samples": sorted(read_samples(run.folder).items()),
            "command": f"{program('sample')} {typed('run', relative(run.folder.absolute()))}",
            **measured(run, self.data),
            **self.of_corpus(),
        }

    def of_corpus(self) -> dict[str, Any]:
        """What can be measured only with the corpus: the data card, the known documents, what the format costs."""
        if self.data is None:
            return {"card": None, "known": None, "fidelity": None}
        model = self.run.generator.model
        page_model = with_packed(model, self.packed)
        return {
            "card": self.data.card(model.block_size),
            "known": known_documents(self.data),
            "fidelity": asdict(compare(model, page_model, self.data, self.run.config.sampling)),
        }


def prepare(run: OpenRun, name: str, bits: int | None, ngram_bits: int, data: Data | None) -> PageRun:
    """A run for a page, with weights of `bits` bits (None: as many as its draws need).

    Raises `UserError` if no page can compute its model.
    """
    check_activation(run.config)
    model = run.generator.model
    bits = bits or fewest_bits(model, data, run.config.sampling)
    return PageRun(run, name, pack_model(model, bits, ngram_bits), data)


def check_activation(config: Config) -> None:
    if (activation := config.model.activation) not in ACTIVATIONS:
        raise UserError(
            f"model.activation={activation}: the page cannot compute it; add it to ACTIVATIONS in microgpt/page/gpt.js"
            " and in microgpt/page/contents.py"
        )


def text_settings(generator: TextGenerator) -> dict[str, Any]:
    """What `text.js` needs to read a prompt and to write a sample."""
    mode, normaliser, tokenizer = generator.mode, generator.normaliser, generator.tokenizer
    return {
        "chars": tokenizer.chars,
        "names": tokenizer.names(),
        "ends_at_bos": mode.ends_at_bos,
        "one_line": mode.one_line,
        "separator": mode.bos_text,
        "own": mode.division.is_own,
        "unit": mode.unit,
        "form": normaliser.form,
        "lowercase": normaliser.lowercase,
        "replace": list(normaliser.replace.items()),
    }


def reference(generator: TextGenerator, sampling: SamplingConfig, seed: int) -> list[str]:
    """The first samples that `sample.py` writes with the settings of the run, without their prompt."""
    if sampling.max_tokens > MAX_REFERENCE_TOKENS:
        return []
    prompt = sampling.prompts[0]
    first = replace(sampling, n_samples=min(MAX_REFERENCE_SAMPLES, sampling.n_samples), prompts=[prompt])
    begins = len(generator.prompt(prompt))
    return [text[begins:] for text in generator.generate(first, seed)]


def measured(run: OpenRun, data: Data | None) -> dict[str, Any]:
    """The figures of the run: its curves, its losses, and what they say."""
    result = read_result(run.folder)
    val_loss = result.get("val_loss")  # of the best weights, which are those of the page
    baselines = {name: loss for name, loss in (result.get("baselines") or {}).items() if loss is not None}
    sentences = []
    if set(baselines) >= set(NAMES) and val_loss is not None:
        sentences.append(f"{val_loss:.3f} nats per token: {verdict(val_loss, baselines)}")
    if data is not None and result.get("novelty"):
        sentences.append(build_novelty(data).sentence(result["novelty"]))
    keys = ("val_loss", "val_bpc", "val_tokens", "best_step", "steps", "step", "seconds", "device", "status")
    return {
        "curves": curves(read_metrics(run.folder)),
        "baselines": baselines,
        "sentences": sentences,
        "findings": result.get("findings") or [],
        "result": {key: result.get(key) for key in keys},
    }


def curves(metrics: Series) -> dict[str, tuple[Sequence[int], Sequence[float]]]:
    """The losses (steps, values) of a run, of which at most MAX_POINTS are kept."""
    found = {}
    for name in CURVES:
        steps, values = metrics.get(name, ([], []))
        finite = [(step, value) for step, value in zip(steps, values, strict=True) if abs(value) < float("inf")]
        stride = -(-len(finite) // MAX_POINTS) or 1
        kept = finite[::-stride][::-1]  # with the last one
        found[name] = ([step for step, _ in kept], [round(value, 5) for _, value in kept])
    return found


def known_documents(data: Data) -> dict[str, Any] | None:
    """Filters of the documents of both splits; None for a running text, whose samples are no documents."""
    splits = {"training": data.train, "held-out": data.val}
    return {
        name: filter_of(split).as_json() for name, split in splits.items() if isinstance(split, DocumentSplit)
    } or None
