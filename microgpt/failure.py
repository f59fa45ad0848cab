"""How a program fails: a user's mistake as one line, with an exit status that is not 0; a bug as a stack trace."""

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from microgpt.config import unknown_key
from microgpt.errors import InterruptedRunError, UserError, user_error_behind

EXPECTED = (UserError, HydraException, OmegaConfBaseException, OSError)

with_trace = os.environ.get("HYDRA_FULL_ERROR", "0") != "0"  # the user's wish, before the program sets it


def guard(main: Callable[[], Any], usage: str | None = None) -> None:
    """Call `main`; what users can mend ends as one line and exit status 2, Ctrl-C as 130.

    A program that has its `usage` given prints it for -h and --help.
    """
    if usage is not None and {"-h", "--help"} & set(sys.argv[1:]):
        print(usage.strip())
        return
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except EXPECTED as error:
        if with_trace:
            raise
        fail(error)
    except ValueError as error:
        if "Config group override" not in str(error):  # Hydra's answer to model=null
            raise
        fail(UserError("a group of settings takes the name of a choice, not null or a number; --help lists them"))


def fail(error: BaseException) -> NoReturn:
    """Tell the error and end the program, which other than an exception nothing catches by mistake."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    sys.exit(130 if isinstance(error, InterruptedRunError) else 2)


def one_line(error: BaseException) -> str:
    """What a user needs to know of an error, in one line."""
    if behind := user_error_behind(error):
        return str(behind)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        close = difflib.get_close_matches(name, error.options, n=1)
        hint = f"; did you mean {group}={close[0]}?" if close else ""
        return f"{group}={name}: there is no such {group}; choose from {', '.join(error.options)}{hint}"
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        where = f"{error.filename}: " if error.filename else ""
        way_out = "free some space" if error.errno == errno.ENOSPC else "check it"
        return f"{where}{error.strerror or error}; {way_out}, or choose another directory with hydra.run.dir="
    return hydra_line(error)


def hydra_line(error: BaseException) -> str:
    """Hydra's and OmegaConf's own messages, shortened to the key and the reason."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as key=value; put quotes around it: \"key='value'\""
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match[1].split("@")[0])
    if match := re.search(r"Error merging override (.+)", text):
        reason = str(error.__cause__ or "").splitlines()
        return f"{match[1]}: {reason[0] if reason else 'does not fit'}; see --help for what it takes"
    return " ".join(text.split())
