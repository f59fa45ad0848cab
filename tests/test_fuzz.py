"""Whatever a file or a prompt holds, it is read, or refused in one line: never another error, never endlessly.

Hypothesis makes the inputs: the same few in each test run, and many new ones with `make fuzz`. What was found stays as
an example.
"""

import bz2
import csv
import functools
import gzip
import io
import json
import lzma
import re
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from settings import FUZZ_EXAMPLES, QUICK

from microgpt.commands.arguments import quote, quote_items, read_arguments, split_texts, unquote
from microgpt.commands.convert import convert
from microgpt.commands.explain import ExplainConfig
from microgpt.commands.failure import user_errors
from microgpt.config.registry import READERS
from microgpt.config.schema import Config, DatasetConfig, SamplingConfig
from microgpt.data import decoding
from microgpt.data.corpus import load_corpus
from microgpt.data.loading import load_data
from microgpt.data.readers import read_text_in_parts
from microgpt.data.tables import read_csv, read_jsonl
from microgpt.errors import UserError
from microgpt.insight.samples_over_time import read_samples
from microgpt.model.text_generator import TextGenerator
from microgpt.runs import checkpoint
from microgpt.runs.contents import read_contents
from microgpt.runs.directory import BEST, CONFIG, METRICS, RESULT, read_config, read_result, read_yaml
from microgpt.runs.events import read_records
from microgpt.runs.metrics import MetricsWriter, read_metrics
from microgpt.runs.opening import open_run
from microgpt.sweeps.jobs import Job
from microgpt.training.search import check_database

try:
    import resource
except ImportError:  # Windows
    resource = None

SECONDS, MEMORY = 20, 1 << 30  # for one input: what is beyond is a hang, or a leak

# Each example has a file of its own, so a fixture may serve them all.
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
CHECKS += [HealthCheck.filter_too_much, HealthCheck.large_base_example]

FEW, MANY = (FUZZ_EXAMPLES or n for n in (30, 150))


def fuzzed(n_examples: int) -> Callable[[Any], Any]:
    """A decorator: the same examples in each run, unless `make fuzz` asks for many new ones."""
    return settings(
        max_examples=n_examples,
        deadline=None,
        derandomize=not FUZZ_EXAMPLES,
        suppress_health_check=CHECKS,
        database=None,
    )


@contextmanager
def read_or_refused() -> Iterator[None]:
    """A context in which nothing but a `UserError` of one line may be raised, within SECONDS and MEMORY."""
    with limited():
        try:
            yield
        except UserError as error:
            assert str(error) and "\n" not in str(error)


@contextmanager
def limited() -> Iterator[None]:
    """A context that ends with an error after SECONDS, or beyond MEMORY more bytes than before; on Linux."""
    statm = Path("/proc/self/statm")
    if resource is None or not statm.exists():
        yield
        return

    def stop(*_: object) -> None:
        raise AssertionError(f"still not done after {SECONDS} s")

    used = int(statm.read_text().split()[5]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    handler = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


# -- inputs ------------------------------------------------------------------------------------------------

# Text of the characters that mean something in some format, and of any others.
SYNTAX = st.text(st.sampled_from("\0\t\n\r \"'#$%&()*+,-./:;<=>?@[\\]^_`{|}~09aAé\u2028\ufeff\ufdd0"), max_size=40)
TEXT = st.one_of(SYNTAX, st.text(max_size=40), st.lists(SYNTAX, max_size=8).map("\n".join))

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))
NUMBERS = st.integers() | st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30]) | st.floats()

ENCODINGS = [
    "utf-8",
    "utf-16",
    "utf-32",
    "utf-7",
    "cp1252",
    "gb18030",
    "shift_jis",
    "iso2022_jp",
    "hz",
    "ascii",
    "mac_roman",
]


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes of a whole file that are changed, removed, doubled or cut off at a few places."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.integers(0, 4))
        if kind == 0 and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            del data[place : place + draw(st.integers(1, 50))]
        elif kind == 3:
            data[place:place] = draw(st.binary(max_size=12))
        else:
            other = draw(st.integers(0, max(0, len(data) - 1)))
            data[place:place] = data[other : other + draw(st.integers(1, 50))]
    return bytes(data)


def options(**fields: Any) -> DatasetConfig:
    return DatasetConfig(name="file", **fields)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "corpus"


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# -- texts and tables --------------------------------------------------------------------------------------

BYTES = st.one_of(
    st.binary(max_size=200),
    TEXT.map(lambda text: text.encode("utf-8", "replace")),
    st.tuples(TEXT, st.sampled_from(ENCODINGS)).map(lambda pair: pair[0].encode(pair[1], "replace")),
    st.tuples(st.sampled_from([*decoding.MARKS, *decoding.KINDS, b"PK\3\4"]), st.binary(max_size=60)).map(b"".join),
)


@fuzzed(MANY)
@given(data=BYTES, encoding=st.sampled_from(ENCODINGS) | st.text(max_size=12), size=st.sampled_from([1, 7, 1 << 20]))
@example(data=b"\0\0", encoding="utf-16", size=1 << 20)
def test_a_text(file: Path, data: bytes, encoding: str, size: int) -> None:
    write(file, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "BYTES_AT_ONCE", size)
        with read_or_refused():
            decoding.read_file(file, encoding)
        with read_or_refused():
            list(read_text_in_parts(file, options(encoding=encoding), ("\n\n", "\n\r\n")))


PLAIN = b"the same line, again and again\n" * 40


@fuzzed(MANY)
@given(
    data=st.sampled_from([gzip.compress(PLAIN, mtime=0), bz2.compress(PLAIN), lzma.compress(PLAIN)]).flatmap(damaged)
)
def test_a_compressed_text(file: Path, data: bytes) -> None:
    write(file, data)
    with read_or_refused():
        decoding.read_file(file)


@fuzzed(MANY)
@given(
    text=TEXT | st.lists(st.lists(TEXT, max_size=4), max_size=6).map(lambda rows: as_csv(rows)),
    column=st.none() | st.sampled_from(["a", "", "id"]) | TEXT,
    delimiter=st.none() | st.sampled_from([",", "\\t", "\n", '"', "\0", "é"]) | st.text(max_size=2),
)
def test_a_table(file: Path, text: str, column: str | None, delimiter: str | None) -> None:
    write(file, text.encode("utf-8", "replace"))
    with read_or_refused():
        read_csv(file, options(column=column, delimiter=delimiter))


def as_csv(rows: list[list[str]]) -> str:
    output = io.StringIO()
    with suppress(csv.Error):
        csv.writer(output).writerows([["a", "id"], *rows])
    return output.getvalue()


@fuzzed(MANY)
@given(
    text=TEXT
    | st.lists(JSON, max_size=4).map(lambda values: "\n".join(map(json.dumps, values)))
    | JSON.map(json.dumps),
    column=st.none() | TEXT,
)
@example(text="[" * 100_000, column=None)
@example(text='{"a":' * 100_000, column="a")
@example(text="1" * 5000, column=None)
@example(text='{"": "a"}', column="")
def test_lines_of_json(file: Path, text: str, column: str | None) -> None:
    write(file, text.encode("utf-8", "replace"))
    with read_or_refused():
        read_jsonl(file, options(column=column))


# -- archives ----------------------------------------------------------------------------------------------


@functools.cache
def archive(*other_names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("a.txt", "ü/b.txt", ".hidden", *other_names):
            packed.writestr(zipfile.ZipInfo(name), PLAIN, zipfile.ZIP_DEFLATED)
        packed.writestr(zipfile.ZipInfo("stored"), PLAIN)
    return file.getvalue()


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """An archive whose directory says anything about its members."""
    file = io.BytesIO()
    with suppress(Exception), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for _ in range(draw(st.integers(0, 3))):
            member = zipfile.ZipInfo(draw(TEXT))
            packed.writestr(member, draw(BYTES), draw(st.sampled_from([0, 8, 12, 14])))
            for name, value in draw(
                st.dictionaries(
                    st.sampled_from(["file_size", "compress_size", "CRC", "header_offset", "flag_bits"]),
                    st.sampled_from([0, 1, 8, 0x801, 2**16 - 1, 2**32 - 1, 2**32 + 1, 2**40])
                    | st.integers(0, 2**16 - 1),
                    max_size=2,
                )
            ).items():
                setattr(packed.infolist()[-1], name, value)
    return file.getvalue()


@fuzzed(MANY)
@given(data=st.deferred(lambda: damaged(archive())) | archives() | st.binary(max_size=60))
@example(data=archive(""))
def test_an_archive(file: Path, data: bytes) -> None:
    write(file, data)
    with read_or_refused():
        list(READERS["zip"].read(file, options()))


# -- a whole corpus ----------------------------------------------------------------------------------------


@fuzzed(MANY)
@given(
    text=TEXT | st.lists(TEXT, max_size=12).map("\n".join),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "mode": st.sampled_from(["discrete", "stream"]),
            "reader": st.sampled_from(["text", "csv", "jsonl"]),
            "column": st.sampled_from(["a", "id"]),
            "document": st.sampled_from(["line", "record", "whole", "auto", "\\n", "a", "\\n>", "⏎", "\x1e"]) | TEXT,
            "strip": st.sampled_from(["auto", "both", "right", "none"]),
            "normalize": st.sampled_from(["NFC", "NFD", "NFKC", "NFKD", "none"]),
            "lowercase": st.booleans(),
            "replace": st.dictionaries(TEXT.filter(bool), TEXT, max_size=3),
            "min_count": st.integers(1, 4),
            "limit": st.integers(0, 60),
            "shuffle": st.booleans(),
            "encoding": st.sampled_from(ENCODINGS),
        },
    ),
)
def test_a_corpus(file: Path, text: str, fields: dict[str, Any]) -> None:
    write(file, text.encode("utf-8", "replace"))
    with read_or_refused():
        data = load_data(options(path=str(file), **fields), 1, Path())
        data.card(8)
        data.batches(4, 2)


@fuzzed(MANY)
@given(path=TEXT)
@example(path="a**b")
@example(path="~nobody-here/x")
@example(path="\0")
@example(path="[\r0]")
@example(path="[" * 2000)
@example(path="x" * 5000)
def test_a_path_of_a_corpus(path: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / "empty").mkdir(exist_ok=True)
    monkeypatch.chdir(file.parent / "empty")
    if path != "~nobody-here/x":
        path = re.sub(r"[/~]|\.\.", "", path)  # no folders of this machine
    with read_or_refused(), user_errors():
        load_corpus(options(path=path), Path())


# -- the files of a run ------------------------------------------------------------------------------------


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


# -- what is typed -----------------------------------------------------------------------------------------


@functools.cache
def generator_of(run: Path) -> TextGenerator:
    return open_run(run, "best", torch.device("cpu")).generator


@fuzzed(MANY)
@given(prompt=TEXT | st.text(st.sampled_from("abc \n\\⏎\x1e"), max_size=40))
@example(prompt="\udce9")
def test_a_prompt(run: Path, prompt: str) -> None:
    generator = generator_of(run)
    with read_or_refused():
        generator.notes([prompt])
        texts = generator.generate(SamplingConfig(prompts=[prompt], max_tokens=2, n_samples=1), 1)
        generator.lay_out(texts, SamplingConfig())


WORDS = st.tuples(
    st.sampled_from(
        ["run=", "text=", "checkpoint=", "top=", "out=", "device=", "nope=", "top", "", "=", "model.n_embd="]
    ),
    TEXT | st.sampled_from(["1", "null", "[1]", "{a:b}", "'", "\\", "${seed}", "???", "[" * 500, "9" * 5000]),
).map("".join)


@fuzzed(MANY)
@given(words=st.lists(WORDS, max_size=4))
def test_the_words_of_a_command(words: list[str]) -> None:
    with read_or_refused():
        read_arguments(["run=x", "text=y", *words], ExplainConfig)


@fuzzed(MANY)
@given(
    name=st.sampled_from(
        ["dataset.path", "dataset.replace", "sampling.prompts", "resume", "dataset.document", "model.n_embd"]
    ),
    value=TEXT | JSON.map(lambda data: yaml.safe_dump(data, default_flow_style=True)),
    sweep=st.booleans(),
)
def test_quotes(name: str, value: str, sweep: bool) -> None:
    with read_or_refused(), user_errors():
        quote(f"{name}={value}", Config, sweep)
        quote_items(value)
        unquote(value)
        split_texts(value)
