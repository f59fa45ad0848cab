"""A model for others: its weights as safetensors, its config and tokenizer as JSON, and a model card in Markdown."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from microgpt.config.registry import READERS
from microgpt.config.schema import Config, DatasetConfig, ModelConfig
from microgpt.data.files import split_paths
from microgpt.runs.directory import read_result, sample_lines, write_atomically
from microgpt.runs.opening import OpenRun

WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.json", "README.md"
GROUPS = ("dataset", "model", "optim", "train", "sampling", "run", "seed")  # of the config; the others are of a machine
MAX_SAMPLE_LINES = 10  # on the card
PLAIN = {"activation": "relu", "rotary": False, "qk_norm": False, "final_norm": False}  # of what ten lines compute


def export(run: OpenRun, folder: Path) -> list[str]:
    """Write the four files to `folder`; returns their names. Raises `UserError` if `result.json` is damaged."""
    from safetensors.torch import save

    model, tokenizer, config = run.generator.model, run.generator.tokenizer, without_paths(run.config)
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    settings = {name: value for name, value in asdict(config).items() if name in GROUPS}
    card = model_card(run, config, model.n_parameters())
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        WEIGHTS: save(weights, {"format": "pt"}),
        CONFIG: to_json({"vocab_size": tokenizer.vocab_size, **settings}),
        TOKENIZER: to_json({"chars": list(tokenizer.chars), "bos": tokenizer.bos}),
        CARD: card,
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return list(files)


def without_paths(config: Config) -> Config:
    """The config with the names of the files of the corpus, which need not say where on this machine they lie."""
    paths = [Path(path).name for path in split_paths(config.dataset.path)] if config.dataset.path else None
    return replace(config, dataset=replace(config.dataset, path=paths))


def to_json(data: Any) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def model_card(run: OpenRun, config: Config, n_parameters: int) -> str:
    """The text of the card. A run without `result.json`, as of gpt.py, has no loss on it."""
    from jinja2 import Environment, PackageLoader

    result = read_result(run.folder)
    environment = Environment(loader=PackageLoader("microgpt.runs", "."), trim_blocks=True, keep_trailing_newline=True)
    return environment.get_template("card.md.j2").render(
        config=config,
        n_parameters=n_parameters,
        result=result,
        session=(result.get("sessions") or [{}])[-1],
        source=source(config.dataset),
        losses=losses(result),
        samples=sample_lines(run.folder)[:MAX_SAMPLE_LINES],
        plain=is_plain(config.model),
    )


def source(dataset: DatasetConfig) -> str:
    """Where the corpus is from."""
    if dataset.path:
        return ", ".join(dataset.path)
    return dataset.url or ("embedded in Python packages" if READERS[dataset.reader].embedded else "unknown")


def losses(result: dict[str, Any]) -> list[tuple[str, float, float]]:
    """The model and the n-gram baselines, each with nats per token and bits per character; the lowest loss first."""
    if not result.get("val_loss"):
        return []
    # Baselines are measured on the same tokens and characters, so the ratio of the two units is the same.
    bits = result["val_bpc"] / result["val_loss"]
    rows = {"**this model**": result["val_loss"], **(result.get("baselines") or {})}
    known = [(name, loss, bits * loss) for name, loss in rows.items() if loss is not None]
    return sorted(known, key=lambda row: row[1])


def is_plain(model: ModelConfig) -> bool:
    """Whether the ten lines on the card compute this model."""
    return model.ngrams < 2 and all(getattr(model, name) == value for name, value in PLAIN.items())
