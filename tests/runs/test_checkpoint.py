"""Checkpoints stay intact when the disk is full or the process is killed; other files are refused."""

import io
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from microgpt.errors import UserError
from microgpt.runs import checkpoint


def make_state() -> dict[str, Any]:
    """The kinds of values that a run saves."""
    return {
        "model": {"token_embedding.weight": torch.arange(1200.0).view(30, 40)},
        "optimizer": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.95)}]},
        "progress": {"step": 7, "loss_ema": 2.5, "best_val_loss": float("inf")},
        "tokenizer": "\nabcé",
        "corpus": "0123456789abcdef",
        "config": {"sampling": {"prompts": ["", "a"], "top_k": None, "stream": False}},
    }


def flatten(state: Any) -> Any:
    """`state` with lists in place of tensors, so that == compares it."""
    if isinstance(state, torch.Tensor):
        return [str(state.dtype), state.tolist()]
    if isinstance(state, dict):
        return {key: flatten(value) for key, value in state.items()}
    return state


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A process that runs `code` on `arguments`."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt.pt"


def test_loading_returns_the_saved_state(path: Path) -> None:
    state = make_state()
    checkpoint.save(path, state)
    loaded = checkpoint.load(path)
    assert flatten({key: loaded[key] for key in state}) == flatten(state)
    assert list(path.parent.iterdir()) == [path]


def test_saving_again_replaces(path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(path, {"step": step})
    assert checkpoint.load(path)["step"] == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there, an open file cannot be replaced")
def test_saving_leaves_the_bytes_of_an_open_old_file_alone(path: Path) -> None:
    checkpoint.save(path, {"step": 1})
    before = path.read_bytes()
    with path.open("rb") as old:
        checkpoint.save(path, {"step": 2})
        assert old.read() == before
    assert path.read_bytes() != before


def test_a_state_that_cannot_be_written_leaves_the_old_file_alone(path: Path) -> None:
    checkpoint.save(path, {"step": 1})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpoint.save(path, {"step": 2, "function": lambda: None})
    assert checkpoint.load(path)["step"] == 1
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX's")
def test_a_full_disk_leaves_the_old_file_alone(path: Path) -> None:
    checkpoint.save(path, {"step": 1})
    process = python(
        """
        import resource, signal, sys
        from pathlib import Path
        import torch
        from microgpt.runs import checkpoint

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            checkpoint.save(Path(sys.argv[1]), {"step": 2, "model": torch.zeros(100_000)})
        except OSError as error:
            print("refused", error.errno)
        """,
        path,
    )
    out, errors = process.communicate(timeout=60)
    assert out.startswith("refused"), errors
    assert checkpoint.load(path)["step"] == 1
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_process_killed_while_it_saves_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    process = python(
        """
        import os, random, signal, sys
        from itertools import count
        from pathlib import Path
        import torch
        from microgpt.runs import checkpoint

        draw = random.Random(0)
        for i in range(12):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                for step in count(1):
                    state = {"step": step, "model": torch.full((200_000,), float(step))}
                    checkpoint.save(Path(sys.argv[1], f"{i}.pt"), state)
                    os.write(writer, b".")
            os.close(writer)
            saved = sum(len(os.read(reader, 1)) for _ in range(draw.randint(1, 4)))
            for _ in range(draw.randrange(50_000)):  # some way into the next save
                pass
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            while more := os.read(reader, 1000):
                saved += len(more)
            print(saved)
        """,
        tmp_path,
    )
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    reported = [int(line) for line in out.split()]
    assert len(reported) == 12
    for i, n_saved in enumerate(reported):
        state = checkpoint.load(tmp_path / f"{i}.pt")
        assert state["step"] in (n_saved, n_saved + 1)
        assert torch.equal(state["model"], torch.full((200_000,), float(state["step"])))


def test_a_partial_file_of_a_killed_process_is_ignored(path: Path) -> None:
    path.with_name(f".{path.name}.1-1.partial").write_bytes(b"half of a")
    checkpoint.save(path, {"step": 1})
    assert checkpoint.load(path)["step"] == 1


# -- files that are no checkpoint --------------------------------------------------------------------------


def saved(state: Any, **options: Any) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        checkpoint.load(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def test_a_missing_file_is_named(path: Path) -> None:
    assert "no checkpoint here" in refusal(path)


def test_a_directory_is_refused_as_a_checkpoint(path: Path) -> None:
    path.mkdir()
    assert "no checkpoint here" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(1000), id="zeros"),
        pytest.param(b"hello, world\n", id="text"),
        pytest.param(b"step,train/loss,train/loss_ema\n10,3.1,3.2\n", id="metrics.csv"),
        pytest.param(b'{"status": "finished"}\n', id="result.json"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(99), id="png"),
        pytest.param(b"GIF89a", id="gif"),
        pytest.param(b".", id="a dot"),
        *(pytest.param(pickle.dumps({"step": 1}, protocol), id=f"pickle {protocol}") for protocol in range(6)),
        pytest.param(pickle.dumps(Path("x"), 2), id="pickled object"),
        pytest.param(saved({"a": torch.ones(2)}, _use_new_zipfile_serialization=False)[:-9], id="half of an old one"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("foreign", [{"model": torch.ones(2)}, {"format": "other-1"}, [1, 2], torch.ones(2)], ids=str)
def test_a_checkpoint_of_another_program_is_refused(path: Path, foreign: Any) -> None:
    path.write_bytes(saved(foreign))
    assert checkpoint.FORMAT in refusal(path)


def test_a_checkpoint_that_would_run_code_is_refused(path: Path) -> None:
    class RunsCode:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(path.with_name("mischief")),)

    path.write_bytes(saved({"format": checkpoint.FORMAT, "model": RunsCode()}))
    refusal(path)
    assert not path.with_name("mischief").exists()


def test_a_checkpoint_cut_short_is_refused(path: Path) -> None:
    checkpoint.save(path, make_state())
    whole = path.read_bytes()
    assert len(whole) > 5_000
    for size in range(1, len(whole), 97):
        path.write_bytes(whole[:size])
        refusal(path)


def test_a_checkpoint_with_a_changed_byte_is_loaded_or_refused(path: Path) -> None:
    checkpoint.save(path, {"step": 3, "model": {"w": torch.arange(4.0)}, "betas": (0.9, 0.95)})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + b"\x00" + whole[place + 1 :])
        try:
            checkpoint.load(path)
        except UserError as error:
            assert str(path) in str(error)
