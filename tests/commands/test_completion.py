"""Shell completion: of commands, of their settings and choices, and of Hydra's overrides, in a real shell."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from settings import ROOT

from microgpt.commands.completion import complete


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("microgpt ", ["train", "sample", "explain"]),
        ("microgpt tr", ["train", "tradeoff"]),
        ("microgpt explain dev", ["device=", "device=auto", "device=cpu", "device=cuda", "device=mps"]),
        ("microgpt explain run=x check", ["checkpoint=", "checkpoint=best", "checkpoint=last"]),
        ("microgpt nothing x", []),
    ],
)
def test_a_word_is_completed(line: str, words: list[str]) -> None:
    found = complete(line)
    assert set(words) <= set(found)
    last = line.rpartition(" ")[2]
    assert all(word.startswith(last) for word in found)
    if last:
        assert found == words


def test_choices_of_ones_own_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine/dataset").mkdir(parents=True)
    (tmp_path / "mine/dataset/haiku.yaml").touch()
    line = "microgpt train --config-dir mine dataset=h"
    command = [sys.executable, "-m", "microgpt", "completion", f"line={line}"]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert subprocess.check_output(command, cwd=tmp_path, text=True).split() == ["dataset=haiku"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("microgpt tra", {"train", "tradeoff"}),
        ("microgpt train dataset=n", {"dataset=names"}),
        ("microgpt sample sampling=gr", {"sampling=greedy"}),
        ("microgpt tune tun", {"tune="}),
    ],
)
def test_bash_completes_a_partial_word(words: str, expected: set[str], tmp_path: Path) -> None:
    """As readline does: COMP_WORDS without = as a word break, COMP_CWORD the last of them."""
    (tmp_path / "microgpt").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m microgpt "$@"\n')
    (tmp_path / "microgpt").chmod(0o755)
    script = f"""
        PATH={tmp_path}:$PATH
        eval "$(microgpt completion)"
        COMP_LINE="{words}"; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _microgpt
        echo "${{COMPREPLY[@]}}"
        complete -p microgpt
    """
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=False)
    completed, _, rule = done.stdout.partition("\n")
    assert set(completed.split()) == expected, done.stderr
    assert "-F _microgpt microgpt" in rule
