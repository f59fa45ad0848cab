"""Finding the user's mistake among the exceptions that others wrapped around it."""

from collections.abc import Callable

from microgpt.errors import InterruptedRunError, UserError, user_error_behind


def raised(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_user_error_is_found_as_it_is() -> None:
    error = InterruptedRunError("interrupted")
    assert user_error_behind(error) is error


def test_a_user_error_is_found_however_deep_it_was_wrapped() -> None:
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


def test_the_outermost_user_error_speaks() -> None:
    outer = UserError("outer")
    outer.__cause__ = UserError("inner")
    assert user_error_behind(outer) is outer


def test_a_bug_is_no_user_error() -> None:
    assert user_error_behind(raised(lambda: {}["key"])) is None
    error = RuntimeError("bug")
    error.__cause__ = KeyError("deeper bug")
    assert user_error_behind(error) is None
