"""Runs `train` and `sample` with Hydra: registers schemas and resolvers, and passes the command line on."""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field
from functools import partial
from typing import Any, NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from microgpt.commands.arguments import (
    check_own_file,
    check_word,
    in_quotes,
    print_help_if_asked,
    quote,
    split_config_dir,
)
from microgpt.commands.failure import SHOW_TRACE, report_errors, user_errors
from microgpt.commands.resolvers import register_resolvers, remove_unused_folders
from microgpt.config.checks import as_path, ending_with, parse
from microgpt.config.groups import CONF, groups, own_folder, with_groups_in
from microgpt.config.program import install, version
from microgpt.config.schema import Config, settings
from microgpt.errors import UserError
from microgpt.sweeps import callback as sweep

# With these, a rank other than 0 makes no directory and no log.
WORKER_OVERRIDES = [
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
]


def run_app(
    task: Callable[[DictConfig], None],
    config_name: str,
    schema: Any,
    words: Sequence[str],
    doc: Callable[[], str],
    default_of: Callable[[str, Field[Any]], str],
) -> None:
    """Compose `conf/<config_name>.yaml` with the words of a command line, and call `task` with the result.

    With -h or --help, the text of `doc` and the settings of the schema with their defaults (`default_of`) are printed
    instead: Hydra's own help takes a second. With --version, the versions in use are printed.
    A user's mistake ends the program with one line and exit status 2, Ctrl-C with status 130. The summary of a sweep is
    written however the sweep ends; if jobs failed, the status is 2.
    """
    logging.raiseExceptions = SHOW_TRACE  # a full disk under train.log is reported by what fails next
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises what is reported here

    def print_help() -> None:
        if "--version" in words:  # Hydra's own says only that of Hydra
            print(version())
            sys.exit()
        with with_groups_in(split_config_dir(words)[0]):
            print_help_if_asked(words, doc(), schema, default_of)

    report_errors(print_help)
    register(schema)
    try:
        report_errors(lambda: call_hydra(task, config_name, schema, words))
    finally:
        logging.shutdown()
        remove_unused_folders()
        unfinished = sweep.finish()
        if unfinished:
            print(f"error: {unfinished}", file=sys.stderr)
    if unfinished:
        sys.exit(UserError.exit_status)


def register(schema: Any = Config) -> None:
    """Register with Hydra the schema and the resolvers that the files in `conf/` refer to."""
    name = {"Config": "base_config", "SampleConfig": "base_sample"}[schema.__name__]
    ConfigStore.instance().store(name=name, node=schema)
    register_resolvers()


def call_hydra(task: Callable[[DictConfig], None], config_name: str, schema: Any, words: Sequence[str]) -> None:
    """Pass the command line to Hydra, which calls `task`. Raises `UserError` for a user's mistake."""
    refuse_empty(words)
    words = expand_resume(list(words))
    with with_groups_in(split_config_dir(words)[0]):
        call_hydra_main(task, config_name, schema, words)


def call_hydra_main(task: Callable[[DictConfig], None], config_name: str, schema: Any, words: Sequence[str]) -> None:
    """`call_hydra` with the groups of the user's own in place."""
    flags, words = check_flags(words)
    sweep_wanted = flags.multirun
    if schema is Config:
        check_own_file(words)
    sys.argv[1:] = [quote(word, schema, sweep_wanted) for word in words]
    if sweep_wanted and schema is not Config:
        raise UserError("-m: sample takes one run at a time; leave it out")
    if "RANK" in os.environ and sweep_wanted:
        raise UserError("-m: torchrun trains one model; give a sweep hydra/launcher=joblib, or leave out -m")
    if is_worker():
        sys.argv += WORKER_OVERRIDES
    try:
        is_new = schema is Config and not any(word.startswith("resume=") for word in words)
        advice = another_directory(sweep_wanted) if is_new else ""
        with user_errors(schema, advice), warnings.catch_warnings():
            # Hydra warns that the launcher configs in conf/ have the same names as those of its plugins. That is
            # intended: they take types and defaults from them.
            warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/")
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)()
    except UserError:
        raise
    except Exception as error:
        if "Unknown plugin class" in str(error):
            raise UserError(missing_launcher()) from None
        if sweep.started_sweeps and not SHOW_TRACE:  # jobs raise nothing, so the launcher did
            reason = str(error).strip().splitlines() or [""]
            raise UserError(f"the launcher failed: {type(error).__name__}: {reason[0]}") from None
        raise


def compose_config(overrides: Sequence[str]) -> Config:
    """The config that `train` composes of these overrides, which are quoted for Hydra. Raises `UserError`."""
    own = own_folder()
    added = [f"hydra.searchpath=[{in_quotes(f'file://{own.absolute()}')}]"] if own else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return parse(compose("config", [*overrides, *added]), Config)


@contextmanager
def first_import_of_torch() -> Iterator[None]:
    """A context without garbage collection. What is alive at its end is never searched for garbage.

    Torch makes 270,000 objects that stay. While they are searched again and again, a third of a second passes.
    """
    if "torch" in sys.modules:  # in a later job of a sweep, what is alive may be garbage of the earlier ones
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def is_worker() -> bool:
    """Whether torchrun has started this process as a rank other than 0."""
    return os.environ.get("RANK", "0") != "0"


def expand_resume(words: list[str]) -> list[str]:
    """The words; if `resume=` names the directory of a sweep, those of the command line of that sweep instead."""
    for word in words:
        name, _, value = word.partition("=")
        if name == "resume" and value:
            folder = as_path(name, value.strip("'\""))
            if (folder / sweep.RECORD).is_file():
                return sweep.resume_arguments(folder, [other for other in words if other != word])
    return words


def check_flags(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The flags of Hydra among the words, and the words with the flags at the end: Hydra takes no setting after one.

    Raises `UserError` for a flag that there is not, or that takes another value.
    """
    parser = get_args_parser()
    parser.error = partial(refuse_flag, words)
    flags, others = parser.parse_known_args(list(words))
    if unknown := [word for word in others if word.startswith("-")]:
        refuse_flag(words, f"unrecognized arguments: {unknown[0]}")
    given = [*flags.overrides, *others]
    for word in given:
        check_word(word)
    if flags.experimental_rerun is not None:
        raise UserError("--experimental-rerun: is not supported; resume= resumes a run, with all its settings")
    return flags, [*given, *(word for word in words if word not in given)]


def refuse_flag(words: Sequence[str], message: str) -> NoReturn:
    """Raise `UserError` for a flag among the words of a command line; `message` is what argparse says about it."""
    typed_flag = message.removeprefix("unrecognized arguments: ").partition(" ")[0]
    flag, equals, value = typed_flag.lstrip("-").partition("=")
    if not message.startswith("unrecognized"):
        raise UserError(f"{message}; --hydra-help explains the flags of Hydra")
    if not equals:  # the value may be the next word
        rest = list(words[list(words).index(typed_flag) + 1 :])
        value = rest[0] if rest and "=" not in rest[0] and not rest[0].startswith("-") else "…"
    known = [*dict(settings(Config)), *groups()]
    names = [flag] if flag in known else ending_with(flag, known)
    hint = f"type {' or '.join(f'{name}={value}' for name in names)}" if names else "settings are typed key=value"
    raise UserError(f"{typed_flag.partition('=')[0]}: there is no such flag; {hint}, and --help lists them")


def another_directory(sweep_wanted: bool) -> str:
    """What to type for a new run or sweep whose directory cannot be written."""
    return f", or choose another directory with {'hydra.sweep.dir' if sweep_wanted else 'hydra.run.dir'}="


def refuse_empty(words: Sequence[str]) -> None:
    """Raise `UserError` for a setting of Hydra's without a value: `hydra.run.dir=` would be the working directory."""
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.startswith("hydra.") and not value.strip("'\" "):
            raise UserError(f"{word}: is empty (an unset variable of the shell?); give a value, or leave it out")


def missing_launcher() -> str:
    """The error message for a launcher whose plugin is not installed."""
    launcher = next((word for word in sys.argv if word.startswith("hydra/launcher=")), "hydra/launcher")
    extra = {"joblib": "parallel", "ray": "ray"}.get(launcher.partition("=")[2], "cluster")
    return f"{launcher}: is not installed; add it with: {install(extra)}"
