"""Run directories: comparing their configs, and reading their status."""

import json
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from microgpt.config.program import relative
from microgpt.config.schema import Config, DatasetConfig, ModelConfig, SamplingConfig, TrainConfig
from microgpt.errors import UserError
from microgpt.runs.directory import (
    CONFIG,
    RESULT,
    Status,
    difference,
    read_config,
    read_result,
    read_status,
    remove_partial_files,
    sample_lines,
    write_atomically,
    write_config,
    write_failure,
    write_result,
)


def test_a_difference_is_named_by_its_key() -> None:
    config = Config(dataset=DatasetConfig(name="a"), model=ModelConfig(n_embd=8))
    assert difference(config, replace(config, model=ModelConfig(n_embd=16))) == "model.n_embd=16"
    assert difference(config, replace(config, seed=7)) == "seed=7"
    assert difference(config, replace(config, dataset=DatasetConfig(name="b"))) == "dataset.name=b"


def test_more_steps_or_a_new_note_do_not_change_the_identity_of_a_run() -> None:
    config = Config(dataset=DatasetConfig(name="a", note="old"))
    other = replace(config, train=TrainConfig(steps=9), dataset=DatasetConfig(name="a", note="new"))
    assert difference(config, other) is None


def test_a_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = Config(dataset=DatasetConfig(name="a", replace={"ß": "ss"}), model=ModelConfig(n_embd=8), plot=False)
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config
    (tmp_path / CONFIG).unlink()
    with pytest.raises(UserError, match="not the directory of a run"):
        read_config(tmp_path)


def test_paths_are_shown_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert relative(tmp_path / "outputs" / "x") == Path("outputs/x")
    assert relative(Path("/elsewhere/x")) == Path("/elsewhere/x")


def test_several_threads_can_write_one_file(tmp_path: Path) -> None:
    texts = [str(n) * 1_000_000 for n in range(4)]
    with ThreadPoolExecutor(len(texts)) as pool:
        for _ in range(5):
            list(pool.map(lambda text: write_atomically(tmp_path / "a.txt", text), texts))
            assert (tmp_path / "a.txt").read_text() in texts
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_a_line_of_the_samples_ends_with_a_newline_alone(tmp_path: Path) -> None:
    assert sample_lines(tmp_path) == []
    (tmp_path / "samples.txt").write_text("a\u2028b\n\nc\x0bd\n", encoding="utf-8")
    assert sample_lines(tmp_path) == ["a\u2028b", "", "c\x0bd"]


def test_writing_leaves_no_partial_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "old")
    write_atomically(tmp_path / "a.txt", "new ü")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "new ü"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("status", Status)
def test_a_status_is_read_as_it_was_written(status: Status, tmp_path: Path) -> None:
    assert read_status(tmp_path) is Status.RUNNING
    write_result(tmp_path, {"status": status})
    assert json.loads((tmp_path / RESULT).read_text()) == {"status": str(status)}
    assert read_status(tmp_path) is status


def test_the_final_statuses_are_known() -> None:
    assert {status for status in Status if status.is_complete} == {Status.FINISHED, Status.STOPPED_EARLY}
    assert {status for status in Status if status.has_ended} == {Status.FINISHED, Status.STOPPED_EARLY, Status.PRUNED}


# -- files that are damaged, or hostile ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no settings"),
        (b"- a\n", "holds no settings"),
        (b"dataset: {name: a", "damaged"),
        (b"\xff\xfed\0", "damaged"),
        ("dataset: {name: a}\n".encode("utf-16"), "damaged"),
        (b"\0\0\0", "damaged"),
        (b"a: &a [x, x]\nb: [*a, *a]\n", "an alias"),
        (b"[" * 5000, "damaged"),
        (b"dataset: {name: a}\nmodel: {width: 3}\n", "model.width"),
        (b"dataset: {name: a}\nmodel: {n_embd: '${oc.env:HOME}'}\n", "n_embd"),
        (b"dataset: {name: a}\nmodel: ${oc.env:HOME}\n", "ModelConfig"),
        (b"!!python/object/apply:os.system ['true']\n", "damaged"),
    ],
)
def test_a_damaged_config_is_named_in_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_config(tmp_path)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / CONFIG}: ") and "\n" not in message and words in message


@pytest.mark.parametrize(
    "text", ["${oc.env:HOME}", r"\${a}", r"\\${a}b\\", "${", "$", "${a:${b}}", "1e-3", "on", "é\n", "x" * 200]
)
def test_text_in_a_config_is_data(text: str, tmp_path: Path) -> None:
    config = Config(dataset=DatasetConfig(name="a", replace={"x": text}), sampling=SamplingConfig(prompts=[text, ""]))
    write_config(tmp_path, config)
    assert read_config(tmp_path) == config


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000),
        *(b'{"status": "ended"}', b'{"status": []}', b'{"steps": "9"}', b'{"step": 1.5}', b'{"val_loss": true}'),
        *(b'{"baselines": [1]}', b'{"novelty": {"new": "x"}}', b'{"findings": [1]}', b'{"dataset": {}}'),
        *(b'{"tokens": 1' + b"0" * n + b"}" for n in (400, 5000)),
    ],
    ids=range(17),
)
def test_a_damaged_result_is_named_in_one_line_and_replaced_by_a_failure(content: bytes, tmp_path: Path) -> None:
    (tmp_path / RESULT).write_bytes(content)
    with pytest.raises(UserError, match="damaged") as error:
        read_status(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / RESULT}: ") and len(str(error.value)) < 300
    write_failure(tmp_path, "no", dataset="names")
    assert read_result(tmp_path) == {"dataset": "names", "status": Status.FAILED, "error": "no"}


def test_a_failure_keeps_the_figures_of_the_result(tmp_path: Path) -> None:
    write_result(tmp_path, {"status": Status.REPORTING, "dataset": "a", "val_loss": 2.0})
    write_failure(tmp_path, "no", dataset="names")
    assert read_result(tmp_path) == {"status": "failed", "dataset": "a", "val_loss": 2.0, "error": "no"}


# -- writing -------------------------------------------------------------------------------------------------


def test_the_old_file_can_be_kept(tmp_path: Path) -> None:
    for text in ("1", "2", "3"):
        write_atomically(tmp_path / "a", text, keep=tmp_path / "b")
    assert [(tmp_path / name).read_text() for name in "ab"] == ["3", "2"]


def test_a_full_disk_is_named_and_leaves_neither_a_partial_nor_a_changed_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as error:
            write_atomically(tmp_path / "a", "new" * 1000, keep=tmp_path / "b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert error.value.filename == str(tmp_path / "a")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".ckpt.pt.partial").write_text("half")
    (tmp_path / "ckpt.pt").write_text("whole")
    remove_partial_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]
