"""Finding the user error in a chain of exceptions, and exiting with its message and status."""

import errno
from collections.abc import Callable

import pytest

from microgpt.errors import InterruptedRunError, UserError, exit_with, os_error_line, user_error_behind


def raised(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_an_unwrapped_user_error_is_returned_unchanged() -> None:
    error = InterruptedRunError("interrupted")
    assert user_error_behind(error) is error


def test_a_user_error_is_found_at_any_depth_of_wrapping() -> None:
    mistake = UserError("dataset=nams: no such corpus")

    def by_hydra() -> None:
        try:
            by_omegaconf()
        except ValueError as error:
            raise RuntimeError("instantiation failed") from error

    def by_omegaconf() -> None:
        try:
            raise mistake
        except UserError:
            raise ValueError("interpolation failed")  # noqa: B904 - an implicit chain is meant

    assert user_error_behind(raised(by_hydra)) is mistake


def test_the_outermost_user_error_is_returned() -> None:
    outer = UserError("outer")
    outer.__cause__ = UserError("inner")
    assert user_error_behind(outer) is outer


def test_a_bug_is_no_user_error() -> None:
    assert user_error_behind(raised(lambda: {}["key"])) is None
    error = RuntimeError("bug")
    error.__cause__ = KeyError("deeper bug")
    assert user_error_behind(error) is None


@pytest.mark.parametrize(
    ("error", "status"), [(UserError("model.n_embd=0: wrong"), 2), (InterruptedRunError("no"), 130)]
)
def test_an_error_is_printed_and_its_status_ends_the_program(
    error: UserError, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as info:
        exit_with(error)
    assert info.value.code == status
    assert capsys.readouterr() == ("", f"error: {error}\n")


def test_a_full_disk_and_a_refused_file_get_different_advice() -> None:
    full, refused = OSError(errno.ENOSPC, "No space left on device", "a/b"), OSError(errno.EACCES, "Permission denied")
    assert os_error_line(full).startswith("a/b: No space left on device; free some space")
    assert os_error_line(refused).startswith("Permission denied; check it")


def test_what_a_name_holds_cannot_break_the_line_nor_control_the_terminal() -> None:
    error = UserError("a\nb\x1b[31m\u2028c\u202fé 春: no such file")
    assert str(error) == "a\\nb\\x1b[31m\\u2028c\u202fé 春: no such file"
