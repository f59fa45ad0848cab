"""How a command fails: a user error as one line and an exit status, a bug as a stack trace."""

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf.errors import OmegaConfBaseException
from settings import QUICK, Program

from microgpt.commands.failure import one_line, report_errors, user_errors
from microgpt.commands.hydra_app import compose_config, register
from microgpt.config.groups import with_groups_in
from microgpt.errors import InterruptedRunError, UserError


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


def caught(main: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as info:
        main()
    return info.value


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("model.n_embd=0: wrong"), 2),
        (InterruptedRunError("interrupted"), 130),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device", "outputs/x"), 2),
        (HydraException("no"), 2),
    ],
)
def test_a_user_error_gives_an_exit_status_and_at_most_one_line(
    error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as info:
        report_errors(raising(error))
    assert info.value.code == status
    assert len(capsys.readouterr().err.splitlines()) <= 1


@pytest.mark.parametrize("bug", [ValueError("a bug"), KeyError("x"), AssertionError()])
def test_a_bug_keeps_its_stack_trace(bug: Exception) -> None:
    with pytest.raises(type(bug)):
        report_errors(raising(bug))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EACCES, "Permission denied", "outputs/x"), "outputs/x: Permission denied"),
        (HydraException("no such launcher"), "no such launcher"),
        (OmegaConfBaseException("no such key"), "no such key"),
        (ValueError("Config group override must be a string or a list. Got NoneType"), "the name of a choice"),
    ],
)
def test_errors_of_hydra_omegaconf_and_the_operating_system_become_user_errors(error: Exception, words: str) -> None:
    with pytest.raises(UserError, match=words) as info, user_errors():
        raise error
    assert info.value.__cause__ is error


@pytest.mark.parametrize("error", [UserError("wrong"), InterruptedRunError("interrupted"), ValueError("a bug")])
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as info, user_errors():
        raise error
    assert info.value is error


def test_an_error_of_the_operating_system_names_the_file_and_what_to_do() -> None:
    line = one_line(OSError(errno.ENOSPC, "No space left on device", "outputs/x"), advice=", or give another")
    assert line == "outputs/x: No space left on device; free some space, or give another"
    assert "check it" in one_line(caught(lambda: Path("/nowhere/x").write_text("")))


def test_hydras_messages_are_shortened_to_key_and_reason() -> None:
    line = one_line(caught(lambda: OverridesParser.create().parse_overrides(["a=b=(c"])))
    assert line.startswith("a=b=(c: ") and "quotes" in line
    typo = ConfigCompositionException(
        "Could not override 'model.n_embed'.\nTo append to your config use +model.n_embed"
    )
    assert one_line(typo) == "model.n_embed: there is no such key; did you mean model.n_embd?"
    wrong = ConfigCompositionException("Error merging override model.n_embd=x")
    wrong.__cause__ = ValueError("Value 'x' could not be converted to Integer\n    full_key: model.n_embd")
    assert one_line(wrong) == "model.n_embd=x: must be a whole number; see --help for its values"


def test_a_user_error_is_found_at_any_depth_of_wrapping() -> None:
    wrapped = HydraException("wrapper")
    wrapped.__cause__ = UserError("dataset=x: wrong")
    assert one_line(wrapped) == "dataset=x: wrong"


def test_output_that_nobody_reads_is_no_error() -> None:
    command = f"{sys.executable} -m microgpt train --help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_the_backend_of_a_notebook_does_not_matter(fresh: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel sets it for `!python train.py`, which may be a Python that lacks the package."""
    monkeypatch.setenv("MPLBACKEND", "module://missing_package.backend_inline")
    fresh("train.py", *QUICK, "hydra.run.dir=run")
    fresh("-m", "microgpt", "corpora")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("optim: {lrr: 0.1}", "optim.lrr: there is no such key; did you mean optim.lr?"),
        ("optimm: {lr: 1}", "optimm: there is no such key; did you mean optim?"),
        ("optim: {lr: fast}", "optim.lr=fast: must be a number; see --help for its values"),
        ("model: 3", "Merge error: int is not a subclass of ModelConfig. value: 3; see --help for its values"),
    ],
)
def test_a_mistake_in_a_file_of_ones_own_names_the_file_and_the_key(body: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/haiku.yaml").write_text(f"# @package _global_\n{body}\n")
    register()
    with with_groups_in(tmp_path):
        error = caught(lambda: compose_config(["dataset=haiku"]))
        assert one_line(error) == f"{tmp_path}/dataset/haiku.yaml: {message}"
