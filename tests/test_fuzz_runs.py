"""The files of a run directory: read, or refused in one line (`fuzz`)."""

import functools
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fuzz import BYTES, FEW, JSON, MANY, NUMBERS, TEXT, damaged, fuzzed, limited, read_or_refused, write
from hypothesis import example, given
from hypothesis import strategies as st
from settings import QUICK

from microgpt.commands.convert import convert
from microgpt.errors import UserError
from microgpt.insight.samples_over_time import read_samples
from microgpt.runs import checkpoint
from microgpt.runs.contents import read_contents
from microgpt.runs.directory import BEST, CONFIG, METRICS, RESULT, read_config, read_result, read_yaml
from microgpt.runs.events import read_records
from microgpt.runs.metrics import MetricsWriter, read_metrics
from microgpt.sweeps.jobs import Job
from microgpt.training.search import check_database


@pytest.fixture(scope="module")
def run(trained_once: Callable[..., Path]) -> Path:
    return trained_once(*QUICK)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


YAML = st.one_of(
    JSON.map(lambda data: yaml.safe_dump(data, allow_unicode=True)),
    TEXT,
    st.dictionaries(
        st.sampled_from(["seed", "model", "dataset", "optim", "sampling", "resume"]) | NUMBERS | TEXT, JSON, max_size=4
    ).map(yaml.safe_dump),
    st.tuples(
        st.sampled_from(["bool", "int", "float", "timestamp", "binary", "set", "omap", "pairs", "null", "x"]), TEXT
    ).map(lambda pair: f"a: !!{pair[0]} {pair[1]}"),
)


@fuzzed(MANY)
@given(text=YAML)
@example(text="a: !!bool perhaps")
@example(text="a: !!int ''")
@example(text="a: !!timestamp x")
@example(text="1: 2")
@example(text="{[]: 1}")
@example(text="a: " + "[" * 3000)
@example(text="model: {n_embd: " + "{a: " * 120 + "1" + "}" * 121)
@example(text="seed: 0x" + "f" * 6000)
def test_a_config(folder: Path, text: str) -> None:
    write(folder / CONFIG, text.encode("utf-8", "replace"))
    with read_or_refused():
        read_config(folder)
    with read_or_refused():
        read_yaml(folder / CONFIG)


@fuzzed(FEW)
@given(data=st.data())
def test_a_damaged_config(run: Path, folder: Path, data: st.DataObject) -> None:
    write(folder / CONFIG, data.draw(damaged((run / CONFIG).read_bytes())))
    with read_or_refused():
        read_config(folder)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """Plain data with another value, or none, at one place."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(list(value)))
        rest = {k: v for k, v in value.items() if k != key}
        kind = draw(st.integers(0, 6))
        if kind == 0:
            return rest
        if kind == 1:
            return {**value, draw(TEXT | NUMBERS | st.tuples(NUMBERS)): draw(JSON)}
        return {**value, key: draw(changed(value[key]))}
    if isinstance(value, list) and value and draw(st.booleans()):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], draw(changed(value[place])), *value[place + 1 :]]
    tensors = st.sampled_from([torch.zeros(2, 2), torch.full((2,), torch.nan), torch.zeros(1).expand(10**6, 10**6)])
    return draw(JSON | NUMBERS | st.binary(max_size=9) | tensors)


@fuzzed(FEW)
@given(data=st.data())
def test_a_checkpoint_of_other_content(run: Path, folder: Path, data: st.DataObject) -> None:
    state = data.draw(changed(checkpoint.load(run / BEST)))
    with suppress(Exception):
        torch.save(state, folder / BEST)
    with read_or_refused():
        read_contents(folder / BEST)


def endless() -> list[Any]:
    """A list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


def doubling() -> list[Any]:
    """Sixty lists that unfold to 2^60 values."""
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    return value


@pytest.mark.parametrize("make", [endless, doubling])
@pytest.mark.parametrize("key", ["dataset", "seed", "sampling"])
def test_a_config_that_unfolds_to_too_much_is_refused(
    make: Callable[[], list[Any]], key: str, run: Path, folder: Path
) -> None:
    state = checkpoint.load(run / BEST)
    checkpoint.save(folder / BEST, state | {"config": state["config"] | {key: make()}})
    with limited(), pytest.raises(UserError, match="values, which no config does"):
        read_contents(folder / BEST)


@fuzzed(MANY)
@given(data=st.data())
def test_a_damaged_checkpoint_with_right_checksums(run: Path, folder: Path, data: st.DataObject) -> None:
    """What `torch.load` unpickles is changed, and the archive is written anew around it."""
    with zipfile.ZipFile(run / BEST) as whole, zipfile.ZipFile(folder / BEST, "w") as other:
        for member in whole.infolist():
            content = whole.read(member)
            other.writestr(member, data.draw(damaged(content)) if member.filename.endswith("data.pkl") else content)
    with read_or_refused():
        read_contents(folder / BEST)


@fuzzed(MANY)
@given(data=st.data())
def test_metrics(run: Path, folder: Path, data: st.DataObject) -> None:
    whole = (run / METRICS).read_bytes()
    write(folder / METRICS, data.draw(damaged(whole) | BYTES))
    with read_or_refused():
        series = read_metrics(folder)
        assert all(len(steps) == len(values) for steps, values in series.values())
    writer = MetricsWriter(folder, resumed_at=data.draw(st.integers(0, 9)))
    writer.write(10, {"train/loss": 1.0, "new": 2.0})
    writer.close()
    assert read_metrics(folder)["new"] == ([10], [2.0])


@fuzzed(MANY)
@given(data=st.data())
def test_a_result(run: Path, folder: Path, data: st.DataObject) -> None:
    whole = json.loads((run / RESULT).read_text())
    text = data.draw(changed(whole).map(lambda value: json.dumps(value, default=str, skipkeys=True)[:5000]) | TEXT)
    write(folder / RESULT, text.encode("utf-8", "replace"))
    with read_or_refused():
        read_result(folder)


@fuzzed(FEW)
@given(data=st.data())
def test_the_files_of_a_job(run: Path, folder: Path, data: st.DataObject) -> None:
    (folder / ".hydra").mkdir(exist_ok=True)
    write(
        folder / ".hydra/overrides.yaml",
        data.draw(YAML | st.lists(TEXT).map(yaml.safe_dump)).encode("utf-8", "replace"),
    )
    write(folder / CONFIG, data.draw(YAML).encode("utf-8", "replace"))
    write(folder / RESULT, data.draw(damaged((run / RESULT).read_bytes()) | BYTES))
    write(folder / METRICS, data.draw(damaged((run / METRICS).read_bytes())))
    write(folder / "samples.txt", data.draw(BYTES))
    job = Job(folder)
    for part in ("line", "unreadable", "status_text", "error", "step", "steps", "tokens_per_second", "dataset"):
        value = getattr(job, part)
        assert "\n" not in str(value() if callable(value) else value) or part == "dataset"
    assert job.gain_over_trigram is None or isinstance(job.gain_over_trigram, float)


@fuzzed(FEW)
@given(data=st.data())
def test_samples_over_time(run: Path, folder: Path, data: st.DataObject) -> None:
    write(folder / "samples_over_time.txt", data.draw(damaged((run / "samples_over_time.txt").read_bytes()) | BYTES))
    with read_or_refused():
        read_samples(folder)


@fuzzed(MANY)
@given(data=st.data())
def test_events_of_tensorboard(run: Path, folder: Path, data: st.DataObject) -> None:
    (whole,) = run.glob("events.out.tfevents.*")
    write(folder / "events", data.draw(damaged(whole.read_bytes()) | BYTES))
    with read_or_refused():
        read_records(folder / "events")


GPT_RUN: dict[str, Any] = {"weights": {"head": [[1.0, 2.0]]}, "chars": "ab"}
GPT_RUN["settings"] = {"n_embd": 4, "n_layer": 1, "n_head": 1, "block_size": 8, "data": "", "n_samples": 1}
GPT_RUN["settings"] |= {"temperature": 1.0, "topk": 0, "seed": 1}


@fuzzed(FEW)
@given(text=TEXT | st.deferred(lambda: changed(GPT_RUN)).map(lambda run: json.dumps(run, default=str, skipkeys=True)))
@example(text=json.dumps({**GPT_RUN, "weights": {"head": None}}))
@example(text=json.dumps({**GPT_RUN, "weights": {"head": [[10**400]]}}))
@example(text="[" * 100_000)
def test_a_run_of_gpt(folder: Path, text: str) -> None:
    write(folder / "ckpt.json", text.encode("utf-8", "replace"))
    (folder / BEST).unlink(missing_ok=True)
    with read_or_refused():
        convert(folder)
        read_contents(folder / BEST)


@functools.cache
def database() -> bytes:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        study = optuna.create_study(storage=f"sqlite:///{name}/study.db", study_name="microgpt")
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
        return Path(name, "study.db").read_bytes()


@fuzzed(FEW)
@given(data=st.deferred(lambda: damaged(database())) | st.binary(max_size=99))
def test_the_database_of_a_search(folder: Path, data: bytes) -> None:
    write(folder / "study.db", data)
    with read_or_refused():
        check_database(folder / "study.db")
