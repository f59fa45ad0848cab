"""What a user waits for besides the steps: the start of each program, the corpus, and the end of a run."""

import json
import os
import random
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

from timing import PYTHON, ROOT, Row, beyond, in_turn, run, seconds, seconds_until, spread
from work import composed

from microgpt.config.schema import Config

# Loads a corpus and its first batch; prints the seconds, and by how much the memory grew at most, in MB.
LOAD = """
import json, sys, time
import torch
from microgpt.config.schema import DatasetConfig
from microgpt.data.loading import load_data
from microgpt.runs.record import peak_memory
from pathlib import Path
dataset, block_size, folder = DatasetConfig(**json.loads(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3])
before, began = peak_memory(), time.perf_counter()
data = load_data(dataset, 1337, folder)
data.batches(block_size, 16)(0)
print(time.perf_counter() - began, (peak_memory() - before) / 1e6)
"""


def start_rows(folder: Path, datasets: str, rounds: int) -> list[Row]:
    """The start of each program, beside the imports that it cannot do without."""
    train = ("train.py", "dataset=names", datasets)
    run(*train, "train.steps=20", f"hydra.run.dir={folder}/run")
    directories = (folder / f"start{n}" for n in range(1000))

    def first_step() -> float:
        directory = next(directories)
        samples = directory / "samples_over_time.txt"  # has its second entry right after the first step

        def ready(_: object) -> bool:
            return samples.exists() and "step 1\n" in samples.read_text()

        return seconds_until(ready, *train, f"hydra.run.dir={directory}")

    def first_character(process: subprocess.Popen[bytes]) -> bool:
        return bool(process.stdout and process.stdout.read(1))

    torch, step, first = in_turn(
        rounds,
        seconds(lambda: run("-c", "import torch")),
        first_step,
        lambda: seconds_until(first_character, "sample.py", f"run={folder}/run"),
    )
    hydra, usage, job = in_turn(
        rounds,
        seconds(lambda: run("-c", "import hydra")),
        seconds(lambda: run("train.py", "--help")),
        seconds(lambda: run(*train, "--cfg", "job")),
    )
    return [
        beyond("first step of `names`, all on", step, "`import torch`", torch),
        beyond("first character of `sample.py`", first, "`import torch`", torch),
        beyond("`train.py --help`", usage, "`import hydra`", hydra),
        beyond("`train.py --cfg job`", job, "`import hydra`", hydra),
    ]


def end_rows(folder: Path, datasets: str, rounds: int) -> list[Row]:
    """From the last step until the result stands on the screen."""

    def wait(corpus: str, directory: Path) -> float:
        words = ["train.py", f"dataset={corpus}", datasets, "train.steps=100", f"hydra.run.dir={directory}"]
        process = subprocess.Popen(
            [PYTHON, "-u", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout
        stamps = {}
        for line in process.stdout:
            for word in ("step 100/100", "finished after"):
                if word in line:
                    stamps[word] = time.perf_counter()
        process.wait()
        return stamps["finished after"] - stamps["step 100/100"]

    rows = []
    for corpus in ("names", "english_words"):
        (times,) = in_turn(rounds, lambda corpus=corpus: wait(corpus, folder / f"end-{corpus}-{random.random()}"))
        rows.append(Row(f"from the last step of `{corpus}` to its result", spread(times, " s")))
    return rows


def large_text(path: Path, n_characters: int) -> Path:
    """A text of random words in lines, with a blank line now and then."""
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz", k=rng.randint(2, 9))) for _ in range(20_000)]
    with path.open("w") as file:
        written = 0
        while written < n_characters:
            line = " ".join(rng.choices(words, k=10)) + ("\n\n" if rng.random() < 0.2 else "\n")
            written += file.write(line)
    return path


def text_config(path: Path) -> Config:
    """The config of a running text in a file."""
    return composed("dataset=file", f"dataset.path={path}", "dataset.mode=stream")


def load(config: Config, cache: Path) -> tuple[float, float]:
    """Seconds and MB of memory that a new process needs for a corpus, with its cache in the folder `cache`."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    words = [json.dumps(asdict(config.dataset)), str(config.model.block_size), config.datasets_dir]
    seconds, megabytes = run("-c", LOAD, *words, environment=environment).split()
    return float(seconds), float(megabytes)


def corpus_rows(folder: Path, datasets: str, rounds: int) -> list[Row]:
    """A corpus that is read for the first time, and again."""
    text = large_text(folder / "large.txt", 100_000_000)
    corpora = {"english_words": composed("dataset=english_words", datasets), "a text of 100 MB": text_config(text)}
    rows = []
    for title, config in corpora.items():
        first, second, memory = [], [], []
        for n in range(rounds):
            cache = folder / f"cache-{title}-{n}"
            found = [load(config, cache) for _ in range(2)]
            first.append(found[0][0])
            second.append(found[1][0])
            memory.append(found[0][1])
        rows.append(Row(f"read {title}: first time", spread(first, " s"), "memory", f"{max(memory):,.0f} MB"))
        rows.append(Row(f"read {title}: from then on", spread(second, " s")))
    return rows
