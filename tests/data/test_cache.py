"""The cache: with it everything is as without it, whatever happens to the file, to the entries and to the folder."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microgpt.config.registry import READERS
from microgpt.config.schema import DatasetConfig
from microgpt.data import cache, corpus
from microgpt.data.cache import Cache, Entry, file_checksum, prune, read, write
from microgpt.data.loading import Data, load_data
from microgpt.data.partial import partial_path
from microgpt.data.readers import Reader

either_mode = pytest.mark.parametrize("mode", ["discrete", "stream"])
ENTRY = Entry({"a": np.arange(7, dtype=np.int16), "none": np.empty((0, 3)), "b": np.eye(2)}, {"text": "é\n", "n": 1})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    """The corpora that were read and encoded, not taken from the cache."""
    entries: list[Entry] = []

    def described(*arguments: Any) -> Entry:
        entries.append(describe(*arguments))
        return entries[-1]

    describe = corpus.describe
    monkeypatch.setattr(corpus, "describe", described)
    return entries


def load(file: Path, mode: str = "discrete", seed: int = 0, **options: Any) -> Data:
    return load_data(DatasetConfig(name="file", mode=mode, path=str(file), **options), seed, Path("nowhere"))


def contents(data: Data, block_size: int = 8) -> list[Any]:
    """All that a run reads of its data."""
    rows = [data.batches(block_size, 4, pack)(step) for pack in (True, False) for step in (0, 1, 9, 50)]
    rows.append(data.val_rows(block_size))
    tensors = [tensor for some in rows for tensor in vars(some).values() if tensor is not None]
    splits = [(part.documents, part.text, part.before, part.size, part.lengths) for part in (data.train, data.val)]
    card = data.card(block_size)
    return [data.corpus.fingerprint, data.tokenizer.chars, card, splits, [tensor.tolist() for tensor in tensors]]


def entries_in(home: Path) -> list[Path]:
    return [file for file in home.rglob("*") if file.is_file()]


@either_mode
def test_data_from_the_cache_are_those_without_it(
    names_file: Path, home: Path, encoded: list[Entry], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = contents(load(names_file, mode))
    assert contents(load(names_file, mode)) == first and len(encoded) == 1 and entries_in(home)
    monkeypatch.setattr(cache.Cache, "get", lambda self, name, build: build())
    assert contents(load(names_file, mode)) == first and len(encoded) == 2


@either_mode
def test_a_damaged_entry_is_built_again(names_file: Path, home: Path, mode: str) -> None:
    first = contents(load(names_file, mode))
    entries, rng = entries_in(home), random.Random(0)
    for damage in ("truncate", "empty", "grow", *["flip"] * 10):
        whole = {entry: entry.read_bytes() for entry in entries}
        for entry, data in whole.items():
            place = rng.randrange(len(data))
            changed = data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
            damaged = {"truncate": data[:place], "empty": b"", "grow": data + b" ", "flip": changed}[damage]
            entry.unlink()  # the old file may still be mapped
            entry.write_bytes(damaged)
        assert contents(load(names_file, mode)) == first
        assert all(entry.read_bytes() == data for entry, data in whole.items())


def test_a_flipped_bit_in_any_byte_of_an_entry_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "entry", ENTRY)
    whole = (tmp_path / "entry").read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        (tmp_path / "changed").write_bytes(changed)
        assert read(tmp_path / "changed") is None


@either_mode
def test_a_changed_file_is_read_again_even_if_its_size_and_times_are_the_same(names_file: Path, mode: str) -> None:
    before, stat = load(names_file, mode), names_file.stat()
    text = names_file.read_text()
    names_file.write_text(text[:-2] + "x\n")
    os.utime(names_file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = load(names_file, mode)
    assert names_file.stat().st_size == stat.st_size and after.corpus.fingerprint != before.corpus.fingerprint
    assert "x" in after.tokenizer.chars and contents(after) != contents(before)
    names_file.write_text(text)
    assert contents(load(names_file, mode)) == contents(before)


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    names_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_change(path: Path, dataset: DatasetConfig) -> Iterator[str]:
        path.write_text(path.read_text() + "zoe\n")
        yield path.read_text()

    READERS.load()
    monkeypatch.setitem(READERS.choices, "changing", Reader(read_and_change))
    contents(load(names_file, reader="changing"))
    assert not entries_in(home)


def test_an_entry_is_for_the_settings_that_it_depends_on(names_file: Path, encoded: list[Entry]) -> None:
    names_file.write_text("Ann\nann\nnan\nbob\nBob\neve\nbee\n" * 4)
    different: list[dict[str, Any]] = [{}, {"mode": "stream"}, {"lowercase": True}, {"min_count": 2}]
    different += [{"replace": {"n": "b", "b": "e"}}, {"replace": {"b": "e", "n": "b"}}]
    different += [{"limit": 9}, {"mode": "stream", "document": "line", "strip": "none"}, {"document": "B"}]
    different += [{"mode": "stream", "document": "line", "shuffle": True}, {"mode": "stream", "encoding": "utf-16-le"}]
    fingerprints = {load(names_file, **options).corpus.fingerprint for options in different}
    assert len(fingerprints) == len(encoded) == len(different)
    load(names_file, note="other", pack=False)
    load(names_file.rename(names_file.with_name("moved.txt")))
    assert len(encoded) == len(different)


def test_seeds_have_their_own_splits_and_rows_and_share_the_corpus(names_file: Path, encoded: list[Entry]) -> None:
    first, second = contents(load(names_file, seed=1)), contents(load(names_file, seed=2))
    assert first != second and len(encoded) == 1
    assert (contents(load(names_file, seed=1)), contents(load(names_file, seed=2))) == (first, second)
    assert contents(load(names_file, seed=1), 5) != first  # of another block size


def test_an_entry_of_another_version_is_not_used(
    names_file: Path, encoded: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    for version, n in (("one", 1), ("one", 1), ("two", 2)):
        monkeypatch.setattr(cache, "version", lambda version=version: version)
        load(names_file)
        assert len(encoded) == n


@pytest.mark.parametrize("block", ["microgpt", "microgpt/corpora"])
def test_a_cache_that_cannot_be_written_is_not_an_error(names_file: Path, home: Path, block: str) -> None:
    (home / block).parent.mkdir(parents=True)
    (home / block).write_text("a file where a folder should be")
    assert contents(load(names_file)) == contents(load(names_file))
    assert entries_in(home) == [home / block]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_cache_that_is_read_only_is_read(names_file: Path, home: Path, encoded: list[Entry]) -> None:
    first = contents(load(names_file))
    folder = home / "microgpt" / "corpora"
    folder.chmod(0o500)
    try:
        assert contents(load(names_file)) == first and contents(load(names_file, "stream")) and len(encoded) == 2
    finally:
        folder.chmod(0o700)


def test_an_entry_that_cannot_be_finished_leaves_no_file(tmp_path: Path) -> None:
    class Unwritable:
        shape, dtype, nbytes = (1,), np.dtype("u1"), 1

        def reshape(self, n: int) -> None:
            raise OSError("the disk is full")

    array: Any = Unwritable()
    with pytest.raises(OSError, match="full"):
        write(tmp_path / "entry", Entry({"a": np.arange(3), "b": array}))
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_has_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    growing = partial_path(tmp_path / "entry")
    left = growing.with_name(growing.name.replace(f".{os.getpid()}-", f".{ended.pid}-"))
    left.touch()
    growing.touch()
    prune(tmp_path, keep=Path(__file__))
    assert not left.exists() and growing.exists()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "sub" / "entry", ENTRY)
    found = read(tmp_path / "sub" / "entry")
    assert found is not None and found.facts == ENTRY.facts and list(found.arrays) == list(ENTRY.arrays)
    for name, array in ENTRY.arrays.items():
        assert found.arrays[name].dtype == array.dtype and np.array_equal(found.arrays[name], array)
    torch.from_numpy(found.arrays["a"]).zero_()  # no warning that it is read-only, and the file stays
    again = read(tmp_path / "sub" / "entry")
    assert again is not None and again.arrays["a"].tolist() == list(range(7))
    assert read(tmp_path / "absent") is None


def test_entries_that_are_written_at_once_are_whole(tmp_path: Path) -> None:
    """Threads write two contents in turn to one path; what others read is always one of the two."""
    path = tmp_path / "entry"
    versions = [Entry({"a": np.full(50_000, n)}, {"n": n}) for n in (1, 2)]

    def write_all(n: int) -> None:
        for i in range(20):
            write(path, versions[(n + i) % 2])

    def read_all(_: int) -> int:
        n_read = 0
        for _ in range(40):
            if (found := read(path)) is not None:
                assert set(found.arrays["a"].tolist()) == {found.facts["n"]}
                n_read += 1
        return n_read

    write(path, versions[0])
    with ThreadPoolExecutor(6) as pool:
        writing, reading = [pool.submit(write_all, n) for n in range(3)], [pool.submit(read_all, n) for n in range(3)]
        assert [task.result() for task in writing] == [None] * 3
        assert [task.result() for task in reading] == [40] * 3
    assert list(tmp_path.iterdir()) == [path]


def test_entries_that_were_not_used_for_the_longest_time_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, name in enumerate("abcd"):
        write(tmp_path / name, ENTRY)
        os.utime(tmp_path / name, (86400 * day, 86400 * day))
    assert read(tmp_path / "a") is not None  # used just now
    monkeypatch.setattr(cache, "MAX_BYTES", 3 * (tmp_path / "a").stat().st_size)
    prune(tmp_path, keep=tmp_path / "b")
    assert {file.name for file in tmp_path.iterdir()} == {"a", "b", "d"}


def test_without_a_key_nothing_is_kept(home: Path) -> None:
    built: list[int] = []

    def build() -> Entry:
        built.append(1)
        return ENTRY

    make: list[Callable[[], Cache]] = [Cache, lambda: Cache("key")]
    for new, n in zip(make, (2, 1), strict=True):
        built.clear()
        assert all(new().get("name", build).facts == ENTRY.facts for _ in range(2)) and len(built) == n
    assert len(entries_in(home)) == 1


def test_the_checksum_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_checksum(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_was_built_is_mapped_as_it_is_from_then_on() -> None:
    built = np.arange(5)
    found = Cache("key").get("name", lambda: Entry({"a": built})).arrays["a"]
    assert np.array_equal(found, built) and not found.flags.owndata and not np.shares_memory(found, built)
