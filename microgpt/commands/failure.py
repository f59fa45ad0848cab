"""Reports the errors of a command: a user's mistake as one line and an exit status, a bug as a stack trace."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from microgpt.config.checks import reason_for, unknown_key, wrong_value
from microgpt.config.free_text import readable
from microgpt.config.groups import files, groups
from microgpt.config.schema import Config, settings, typed
from microgpt.errors import UserError, exit_with, os_error_line, user_error_behind
from microgpt.runs.tracking import escape_unencodable

# What Hydra and Python raise a `ValueError` for, by a part of its message, and what the user reads.
HYDRA_VALUE_ERRORS = {
    "Config group override": "a group takes the name of a choice, not null or a number; --help lists them",
    "The --resolve flag": "--resolve: is only for --cfg or --help; add --cfg job",
    "Only one of --run": "only one of --run, --multirun, --cfg, --info and --shell-completion can be given",
    "integer string conversion": "a number has too many digits; --help lists the settings",
}

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
def user_errors(schema: Any = Config, advice: str = "") -> Iterator[None]:
    """A context that converts errors of Hydra, OmegaConf and the operating system to `UserError`.

    `schema` holds the settings of the command. `advice` is added to a line about a file that cannot be written.
    """
    try:
        yield
    except (UserError, BrokenPipeError):
        raise
    except (HydraException, OmegaConfBaseException, OSError) as error:
        raise UserError(one_line(error, schema, advice)) from error
    except yaml.MarkedYAMLError as error:  # in a file of the user's own
        where = f"{error.problem_mark.name}, line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{where}cannot be read as YAML ({error.problem}); correct it") from error
    except RecursionError as error:
        raise UserError("a value is nested too deeply; --help lists the settings") from error
    except ValueError as error:
        if isinstance(error.__cause__, OSError):  # of the file of a log, in a directory that cannot be written
            raise UserError(one_line(error.__cause__, schema, advice)) from error
        line = next((line for part, line in HYDRA_VALUE_ERRORS.items() if part in str(error)), None)
        if line is None:
            raise
        raise UserError(line) from error


def one_line(error: BaseException, schema: Any = Config, advice: str = "") -> str:
    """The message of an error for the user, in one line."""
    return readable(message(error, schema, advice))


def message(error: BaseException, schema: Any, advice: str) -> str:
    if behind := user_error_behind(error):
        return str(behind)
    if isinstance(error, MissingConfigException) and error.options:
        file = str(error.missing_cfg_file)
        group, _, name = file.partition("/") if file.startswith("dataset/") else file.rpartition("/")
        if group == "dataset" and (set("./~") & set(name) or Path(name).exists()):
            path = typed("dataset.path", name)
            return f"dataset={name}: there is no such dataset; if it is a file, type dataset=file {path}"
        close = difflib.get_close_matches(name, error.options, n=1)
        hint = f"; did you mean {group}={close[0]}?" if close else ""
        return f"{group}={name}: there is no such {group}; choose from {', '.join(error.options)}{hint}"
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return os_error_line(error, advice)
    return hydra_line(error, schema)


def line_about_file(match: re.Match[str], schema: Any) -> str:
    """The message for the file of a choice that does not fit the schema: of a group, a name, a reason and a key."""
    group, name, reason, key = match.groups()
    file = next((file for file in files(group) if file.stem == name), f"{name}.yaml")
    if reason.startswith("Key "):
        return f"{file}: {unknown_key(key, schema)}"
    return f"{file}: {wrong_value(key, reason)}"


def remedy(override: str) -> str:
    """What to type in place of an override that Hydra cannot parse, or whose value does not fit."""
    name, equals, value = override.partition("=")
    f = dict(settings(Config)).get(name.lstrip("+"))
    examples = {dict[str, str]: '{"old": "new"}', list[str]: '["one", "two"]', list[float]: "[0.9,0.95]"}
    if f is not None and f.type in examples:
        return f"a value of this kind: {typed(name, examples[f.type])}"
    if not equals or (f is not None and f.type in (int, float, bool)):
        return "--help lists the settings and their values"
    return f"put quotes around it: \"{name}='{value}'\""


def hydra_line(error: BaseException, schema: Any = Config) -> str:
    """The message of an error of Hydra or OmegaConf, shortened to the key and the reason."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        override = str(error.override).removeprefix("++")  # which `quote` adds
        return f"{override}: cannot be read as key=value; {remedy(override)}"
    if match := re.search(r"In '(.+)/([^'/]+)': .*?:\n(.*)\n *full_key: (\S*)", text):
        return line_about_file(match, schema)
    if match := re.search(r"Could not override '(hydra[^']*)'", text):
        return f"{match[1]}: Hydra has no such key; --hydra-help explains what it has"
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match[1].split("@")[0], schema, groups() if schema is Config else ())
    if match := re.search(r"Error merging override (run=.+)", text):  # as for sample.py
        names = ", ".join(name for name, _ in settings(Config) if name.startswith("run."))
        return f"{match[1]}: is for sample and the other commands; training has {names}"
    if match := re.search(r"Error merging override (.+)", text):
        override = match[1].removeprefix("++")
        hint = remedy(override)
        if hint.startswith("a value"):
            return f"{override}: does not fit; {hint}"
        return f"{override}: {reason_for(error.__cause__)}; see --help for its values"
    if match := re.search(r"Sweep parameters '(.+)' requires", text):
        return f"{match[1]}: stands for several values; for a run with each of them, add -m"
    if match := re.search(r"Ambiguous value for argument '(.+)'", text):
        return f"{match[1]}: has several values; for a run with each of them, add -m"
    if "${model}/${dataset}" in text:
        return HYDRA_VALUE_ERRORS["Config group override"]
    if "primary config" in text.lower():
        return "--config-name, --config-path: there is no such config; leave them out"
    key = getattr(error, "full_key", None)
    first = text.splitlines()[0] if text.strip() else type(error).__name__
    return f"{key}: {first}" if key and str(key) not in first else " ".join(first.split())
