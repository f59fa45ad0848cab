"""Reports the errors of a command: a user's mistake as one line and an exit status, a bug as a stack trace."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from microgpt.config.checks import unknown_key
from microgpt.config.free_text import unescape
from microgpt.config.groups import groups
from microgpt.config.schema import Config, settings, typed
from microgpt.errors import UserError, exit_with, os_error_line, user_error_behind
from microgpt.runs.tracking import escape_unencodable

SHOW_TRACE = os.environ.get("HYDRA_FULL_ERROR", "0") != "0"  # read before `run_app` sets the variable


def report_errors(main: Callable[[], Any]) -> None:
    """Call `main`. A user's mistake ends the program with one line and exit status 2, Ctrl-C with status 130."""
    escape_unencodable()
    # The kernel of a notebook sets it for all programs that it starts. Where the package that it names is missing,
    # matplotlib cannot be imported. The commands need no backend: they draw into files.
    os.environ.pop("MPLBACKEND", None)
    try:
        with user_errors():
            main()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes when it exits
        sys.exit(1)
    except UserError as error:
        if SHOW_TRACE:
            raise
        exit_with(error)


@contextmanager
def user_errors() -> Iterator[None]:
    """A context that converts errors of Hydra, OmegaConf and the operating system to `UserError`."""
    try:
        yield
    except (UserError, BrokenPipeError):
        raise
    except (HydraException, OmegaConfBaseException, OSError) as error:
        raise UserError(one_line(error)) from error
    except ValueError as error:
        if isinstance(error.__cause__, OSError):  # of the file of a log, in a directory that cannot be written
            raise UserError(one_line(error.__cause__)) from error
        if "Config group override" not in str(error):  # Hydra's answer to model=null
            raise
        raise UserError("a group takes the name of a choice, not null or a number; --help lists them") from error


def one_line(error: BaseException) -> str:
    """The message of an error for the user, in one line."""
    return unescape(message(error))


def message(error: BaseException) -> str:
    if behind := user_error_behind(error):
        return str(behind)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        close = difflib.get_close_matches(name, error.options, n=1)
        hint = f"; did you mean {group}={close[0]}?" if close else ""
        return f"{group}={name}: there is no such {group}; choose from {', '.join(error.options)}{hint}"
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return os_error_line(error)
    return hydra_line(error)


def readable(override: str) -> str:
    """What to type in place of an override that Hydra cannot parse."""
    name, _, value = override.partition("=")
    f = dict(settings(Config)).get(name.lstrip("+"))
    examples = {dict[str, str]: '{"old": "new"}', list[str]: '["one", "two"]', list[float]: "[0.9,0.95]"}
    if f is not None and f.type in examples:
        return f"a value of this kind: {typed(name, examples[f.type])}"
    return f"put quotes around it: \"{name}='{value or 'value'}'\""


def hydra_line(error: BaseException) -> str:
    """The message of an error of Hydra or OmegaConf, shortened to the key and the reason."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        override = str(error.override).removeprefix("++")  # which `quote` adds
        return f"{override}: cannot be read as key=value; {readable(override)}"
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match[1].split("@")[0], Config, groups())
    if match := re.search(r"Error merging override (run=.+)", text):  # as for sample.py
        names = ", ".join(name for name, _ in settings(Config) if name.startswith("run."))
        return f"{match[1]}: is for sample.py and the other commands; training has {names}"
    if match := re.search(r"Error merging override (.+)", text):
        reason = str(error.__cause__ or "").splitlines()
        return f"{match[1]}: {reason[0] if reason else 'does not fit'}; see --help for its values"
    return " ".join(text.split())
