"""Whatever a file or a prompt holds, it is read, or refused in one line: never another error, never endlessly.

Hypothesis makes the inputs: the same few in each test run, and many new ones with `make fuzz`. What was found stays as
an example.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from settings import FUZZ_EXAMPLES

from microgpt.config.schema import DatasetConfig
from microgpt.data import decoding
from microgpt.errors import UserError

try:
    import resource
except ImportError:  # Windows
    resource = None

SECONDS, MEMORY = 20, 1 << 30  # for one input, in CPU time: what is beyond is a hang, or a leak

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
        raise AssertionError(f"still not done after {SECONDS} s of CPU time")

    used = int(statm.read_text().split()[5]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    handler = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)


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


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


BYTES = st.one_of(
    st.binary(max_size=200),
    TEXT.map(lambda text: text.encode("utf-8", "replace")),
    st.tuples(TEXT, st.sampled_from(ENCODINGS)).map(lambda pair: pair[0].encode(pair[1], "replace")),
    st.tuples(st.sampled_from([*decoding.MARKS, *decoding.KINDS, b"PK\3\4"]), st.binary(max_size=60)).map(b"".join),
)
