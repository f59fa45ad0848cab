"""Loading: a corpus with its tokenizer and its splits, as rows, batches and figures."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch

from microgpt.config.schema import DatasetConfig
from microgpt.data.batches import DocumentBatches, StreamBatches
from microgpt.data.loading import Data, load_data
from microgpt.data.modes import Discrete, Stream
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError

TEXT = "Speak.\n\nBefore we proceed any further, hear me speak.\nAll of it!\n\n" * 40

either_mode = pytest.mark.parametrize("mode", ["discrete", "stream"])


def load(file: Path, mode: str = "discrete", seed: int = 0) -> Data:
    return load_data(DatasetConfig(name="file", mode=mode, path=str(file)), seed, Path("nowhere"))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "a.txt"
    file.write_text(TEXT)
    return file


@pytest.mark.parametrize(("mode", "kind"), [("discrete", Discrete), ("stream", Stream)])
def test_data_hold_the_corpus_the_tokenizer_of_its_characters_and_the_split_by_the_seed(
    names_file: Path, mode: str, kind: type
) -> None:
    data = load(names_file, mode, seed=3)
    documents = data.corpus.documents
    assert type(data.mode) is kind and data.seed == 3
    assert data.tokenizer.chars == Tokenizer.of(documents).chars
    train, val = data.mode.split(data.corpus, 3)
    assert (data.train.text, data.val.text) == (train.text, val.text)


def test_the_folder_of_downloads_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "names.txt").write_text("anna\nmia\n")
    assert load_data(DatasetConfig(name="names", file="names.txt"), 0, Path("~")).corpus.documents == ["anna", "mia"]


def test_training_and_validation_share_no_document(names_file: Path) -> None:
    data = load(names_file)
    assert set(data.train.documents).isdisjoint(data.val.documents)
    assert sorted(data.train.documents + data.val.documents) == sorted(data.corpus.documents)


def test_another_seed_is_another_split_with_other_batches(names_file: Path) -> None:
    first, again, other = (load(names_file, seed=seed) for seed in (1, 1, 2))
    assert first.val.documents == again.val.documents != other.val.documents
    a, b, c = (data.batches(16, 4)(0).idx for data in (first, again, other))
    assert torch.equal(a, b) and not torch.equal(a, c)


@either_mode
def test_batches_hold_the_training_half_and_no_other_token(names_file: Path, mode: str) -> None:
    data = load(names_file, mode)
    batches = data.batches(8, 4)
    assert isinstance(batches, DocumentBatches if mode == "discrete" else StreamBatches)
    assert batches(0).idx.shape == (4, 8)
    epoch = batches.epoch_rows(0)
    targets, inside = epoch.targets[epoch.targets >= 0].tolist(), data.train.tokens[1:].tolist()
    if mode == "discrete":
        assert sorted(targets) == sorted(inside)
    else:
        assert 0 <= len(inside) - len(targets) < 2 * 8  # an epoch leaves out less than two blocks
    assert data.batches(8, 4, pack=False)(0).positions is None


@either_mode
def test_validation_rows_hold_the_validation_half_and_count_its_characters(names_file: Path, mode: str) -> None:
    data = load(names_file, mode)
    rows = data.val_rows(8)
    assert sorted(rows.targets[rows.targets >= 0].tolist()) == sorted(data.val.tokens[1:].tolist())
    assert data.count_characters(rows) == len(data.val.text) == data.mode.count_characters(data.val.text)
    assert data.count_characters(rows[:0]) == 0


def test_a_block_longer_than_the_splits_of_a_stream_is_refused_with_one_that_fits(text: Path) -> None:
    data = load(text, "stream")
    with pytest.raises(UserError, match=r"model.block_size=9999.*try at most model.block_size=(\d+)") as caught:
        data.batches(9999, 2)
    message = str(caught.value)
    assert "\n" not in message and f"{data.train.size:,} tokens of training" in message
    longest = int(message.rpartition("=")[2])
    assert data.batches(longest, 2)(0).idx.shape == (2, longest)
    assert data.val_rows(longest).n_targets == data.val.size - 1
    with pytest.raises(UserError):
        data.batches(longest + 1, 2)


@either_mode
def test_a_step_reads_as_few_tokens_as_it_needs(names_file: Path, mode: str) -> None:
    """Tokens are stored in a byte each; only batches, and rows for a model, are int64."""
    data = load(names_file, mode)
    assert data.train.tokens.dtype == data.val_rows(8).idx.dtype == torch.uint8
    for rows in (data.batches(8, 4)(0), next(data.val_rows(8).chunks(3)), data.val_rows(8).first_tokens(9)):
        assert rows.idx.dtype == rows.targets.dtype == torch.int64


@either_mode
def test_memory_is_a_few_bytes_for_each_character(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its peak, which is in reading and encoding; the same when it comes from the cache."""
    for limit in ("decoding.BYTES_AT_ONCE", "encoding.AT_ONCE", "batches.TOKENS_AT_ONCE"):
        monkeypatch.setattr(f"microgpt.data.{limit}", 1 << 12)  # as small beside this text as they are beside 1 GB
    file = tmp_path / "large.txt"
    lines = [f"line {i} of a text that is as long as many are\n" for i in range(40_000)]
    file.write_text("\n".join("".join(lines[i : i + 4]) for i in range(0, len(lines), 4)))
    table = 5_000_000  # bytes, of a number for each code point
    for _ in range(2):
        tracemalloc.start()
        data = load(file, mode)
        data.batches(32, 4)(0)
        data.val_rows(32)
        data.card(32)
        assert tracemalloc.get_traced_memory()[1] < 4 * file.stat().st_size + table
        tracemalloc.stop()
        assert not {"documents", "text"} & {*vars(data.corpus), *vars(data.train), *vars(data.val)}


# Prints for each of the corpora in its argument by how many bytes the memory grew at most. ru_maxrss would not do: a
# process inherits it from the one that started it.
GROWTH = """
import json, re, sys
from pathlib import Path
from microgpt.config.schema import DatasetConfig
from microgpt.data.loading import load_data
from microgpt.insight.baselines import corpus_baselines

def memory(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

for settings in json.loads(sys.argv[1]):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    data = load_data(DatasetConfig(name="file", **settings), 0, Path("nowhere"))
    data.batches(32, 4)(0)
    data.val_rows(32).first_tokens(100)
    if "reader" not in settings:
        corpus_baselines(data)
    print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process from /proc")
def test_a_process_grows_by_at_most_four_bytes_for_each_of_a_file(tmp_path: Path) -> None:
    lines = [f"line {i} of a text, as long as many are, and {i % 97} more" for i in range(200_000)]
    contents = {
        "small": "\n\n".join(lines[:1000]),
        "text": "\n\n".join(lines),
        "paragraph": "\n".join(lines),
        "csv": "id,text\n" + "".join(f'{i},"{line}\n{i}"\n' for i, line in enumerate(lines)),
        "jsonl": "\n".join(json.dumps({"text": line}) for line in lines),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    corpora = [{"path": str(tmp_path / "small"), "mode": "stream"}, {"path": str(tmp_path / "text"), "mode": "stream"}]
    corpora += [{"path": str(tmp_path / "text"), "mode": "discrete"}]
    corpora += [{"path": str(tmp_path / "paragraph"), "mode": "stream"}]
    for reader in ("csv", "jsonl"):
        corpora.append({"path": str(tmp_path / reader), "mode": "stream", "reader": reader, "column": "text"})
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", GROWTH, json.dumps(corpora)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    growth = [int(line) / len(contents["text"]) for line in output.split()]
    assert max(growth[1:]) < 4


def test_documents_allow_any_block_size(names_file: Path) -> None:
    assert load(names_file).batches(9999, 1)(0).idx.shape == (1, 9999)


def test_the_data_card_describes_the_corpus(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("anna\nbob\nanna\n" + "\n".join(f"{i:03}" for i in range(18)))
    assert load(file).card(block_size=4) == {
        "mode": "discrete",
        "documents": "20",
        "duplicates": "1",
        "dropped": "0",
        "train": "18",
        "validation": "2",
        "characters": str(len(set("annabob0123456789"))),
        "longest": "4",
        "fit a block": "95.0%",
    }


def test_the_data_card_of_a_stream_counts_paragraphs_and_tokens(text: Path) -> None:
    card, data = load(text, "stream").card(block_size=8), load(text, "stream")
    assert (card["mode"], card["paragraphs"], card["fit a block"]) == ("stream", "80", "50.0%")
    n_tokens = sum(map(len, data.corpus.documents)) + 81
    assert data.train.size + data.val.size == n_tokens
    assert (card["train"], card["validation"]) == (f"{data.train.size:,}", f"{data.val.size:,}")
