"""Train on every corpus with its recipe and three models: plain, modern and ngram; print the table of docs/recipes.md.

python benchmarks/recipes.py [datasets_dir=…] [dataset names …]: all corpora take half an hour on two cores.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORPORA = ["names", "pokemon", "cities", "english_words", "colors", "shakespeare", "paul_graham", "python_docs"]
MODELS = ("modern", "ngram")
OUT = ROOT / "outputs" / "recipes"


def train(name: str, options: list[str]) -> dict[str, float]:
    """Train with the recipe of corpus `name`; returns the content of result.json."""
    folder = OUT / "-".join([name, *(option.partition("=")[2] for option in options if "/" not in option)])
    command = [sys.executable, "train.py", f"dataset={name}", *options, f"hydra.run.dir={folder}"]
    print(f"$ {' '.join(command[1:-1])}", file=sys.stderr, flush=True)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "result.json").read_text())


def main() -> None:
    shared = [argument for argument in sys.argv[1:] if "=" in argument]
    chosen = [argument for argument in sys.argv[1:] if "=" not in argument] or CORPORA
    columns = ["corpus", "weights", "steps", "seconds", "nats per token", "bits per character"]
    columns += [f"{model}: {what}" for model in MODELS for what in ("nats", "bits", "seconds")]
    print(f"| {' | '.join(columns)} |")
    print("|" + "---|" * len(columns))
    for name in chosen:
        plain = train(name, shared)
        figures = [f"{plain['parameters']:,}", f"{plain['step']}", f"{plain['seconds']:.0f}"]
        figures += [f"{plain['val_loss']:.3f}", f"{plain['val_bpc']:.3f}"]
        for model in MODELS:
            other = train(name, [f"model={model}", *shared])
            figures += [f"{other['val_loss']:.3f}", f"{other['val_bpc']:.3f}", f"{other['seconds']:.0f}"]
        print(f"| `{name}` | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
