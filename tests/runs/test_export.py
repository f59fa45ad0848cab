"""An exported model: others compute the same logits from its files, and its card says what it is."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from settings import LEAN, QUICK, Trained

from microgpt.config.groups import CONF, choices
from microgpt.config.schema import DatasetConfig
from microgpt.runs import checkpoint
from microgpt.runs.export import export, source
from microgpt.runs.opening import OpenRun, open_run

RUN = [*QUICK, "plot=false", "insight.novelty=0", "insight.over_time=false"]
MODERN = ["model.rotary=true", "model.qk_norm=true", "model.ngrams=3", "model.ngram_rows=100", *LEAN]


def exported(folder: Path) -> tuple[OpenRun, Path]:
    run = open_run(folder, "best", torch.device("cpu"))
    assert export(run, folder / "out") == ["model.safetensors", "config.json", "tokenizer.json", "README.md"]
    return run, folder / "out"


def code_of(card: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("settings", [RUN, [*QUICK, *MODERN]], ids=["plain", "modern"])
def test_the_code_of_the_card_computes_the_logits_of_the_model(settings: list[str], trained: Trained) -> None:
    run, folder = exported(trained(*settings))
    load, sample = code_of((folder / "README.md").read_text())
    idx = [run.generator.tokenizer.bos, *run.generator.tokenizer.encode("lime green")]
    show = f"import sys\nprint(json.dumps([gpt(torch.tensor({idx})).tolist(), 'microgpt' in sys.modules]))"
    # -I: without the working directory and the environment of this process
    command = [sys.executable, "-I", "-W", "ignore::ResourceWarning", "-c", f"{load}\n{sample}\n{show}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    *text, last = done.stdout.splitlines()
    logits, uses_microgpt = json.loads(last)
    expected = run.generator.model(torch.tensor([idx]))[0]
    assert torch.allclose(torch.tensor(logits), expected, atol=1e-5)
    assert uses_microgpt == (settings is not RUN)
    assert set("".join(text)) <= set(run.generator.tokenizer.chars)


def test_a_plain_model_takes_ten_lines_of_torch(trained: Trained) -> None:
    load, _ = code_of((exported(trained(*RUN))[1] / "README.md").read_text())
    lines = [line for line in load.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) == 10 and "microgpt" not in load


def test_the_files_hold_the_best_weights_the_config_and_the_tokenizer(trained: Trained) -> None:
    folder = trained(*RUN)
    run, out = exported(folder)
    weights, best = load_file(out / "model.safetensors"), checkpoint.load(folder / "best.pt")["model"]
    assert weights.keys() == best.keys() and all(torch.equal(weights[name], best[name]) for name in best)
    config, tokenizer = (json.loads((out / f"{name}.json").read_text()) for name in ("config", "tokenizer"))
    assert config["vocab_size"] == len(tokenizer["chars"]) + 1 and config["model"]["n_embd"] == 16
    assert "".join(tokenizer["chars"]) == run.generator.tokenizer.chars and tokenizer["bos"] == len(tokenizer["chars"])


def test_the_card_says_what_the_model_was_trained_on_and_how_good_it_is(trained: Trained) -> None:
    folder = trained(*RUN, "run.name=tiny colours", "run.note=a try")
    _, out = exported(folder)
    card, result = (out / "README.md").read_text(), json.loads((folder / "result.json").read_text())
    assert "# tiny colours" in card and "a try" in card and "949 colour names" in card
    assert "Licence of the corpus: CC0" in card and "embedded" in card and result["corpus"] in card
    assert f"| **this model** | {result['val_loss']:.3f} | {result['val_bpc']:.3f} |" in card
    assert f"| 5-gram | {result['baselines']['5-gram']:.3f} |" in card
    assert f"{result['parameters']:,} weights" in card and result["sessions"][0]["torch"] in card
    assert (folder / "samples.txt").read_text().splitlines()[0] in card


def test_no_path_of_this_machine_is_exported(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "my names.txt").write_text("".join(f"{a}{b}\n" for a in ("an", "bo", "ka") for b in "abcdefgh"))
    run = trained(*QUICK, *LEAN, "dataset=file", f"dataset.path={tmp_path}/my names.txt", f"datasets_dir={tmp_path}")
    _, out = exported(run)
    for name in ("config.json", "README.md"):
        text = (out / name).read_text()
        assert "my names.txt" in text and str(tmp_path) not in text
    assert "not stated (dataset.licence)" in (out / "README.md").read_text()


def test_a_run_without_a_result_has_a_card_without_a_loss(trained: Trained) -> None:
    folder = trained(*RUN)
    (folder / "result.json").unlink()
    assert "It was not measured" in (exported(folder)[1] / "README.md").read_text()


def test_every_corpus_of_ours_states_its_licence() -> None:
    for name in choices("dataset"):
        text = (CONF / "dataset" / f"{name}.yaml").read_text()
        assert ("\n  licence: " in text) == (name != "file"), name


def test_the_source_of_a_corpus_is_its_address_or_its_files() -> None:
    assert source(DatasetConfig(name="a", url="https://example.org/a")) == "https://example.org/a"
    assert source(DatasetConfig(name="a", path=["a.txt", "b.txt"])) == "a.txt, b.txt"
    assert source(DatasetConfig(name="a", reader="colors")).startswith("embedded")
