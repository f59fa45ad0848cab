"""Plain data → an instance of the schema. Checks types, ranges, unknown keys, and settings that depend on others."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from microgpt.config.free_text import escape, unescape
from microgpt.config.registry import READERS
from microgpt.config.schema import REQUIRED, Config, settings, show, typed
from microgpt.errors import UserError, user_error_behind

S = TypeVar("S")

SYNONYMS = {"gpu": "cuda"}  # of choices, for what is suggested

MAX_VALUES = 100_000  # of a config, nested ones included


def parse(config: Any, schema: type[S]) -> S:
    """The config as an instance of `schema`, with every value checked. Raises `UserError` for the first wrong one."""
    try:
        # To plain data first: a node to which Hydra has attached a schema accepts any key that is added with `+`.
        plain = OmegaConf.to_container(config) if OmegaConf.is_config(config) else config
        merged = OmegaConf.merge(OmegaConf.structured(schema), plain)
        # A missing value gives the default of `select`.
        values = {name: OmegaConf.select(merged, name, default=REQUIRED) for name, _ in settings(schema)}
        for name, f in settings(schema):
            if isinstance(values[name], str) and values[name] == REQUIRED:
                doc, example = f.metadata["doc"], f.metadata["example"]
                raise UserError(f"{name}: must be given ({doc}); add {name}={example}")
            plain_value = OmegaConf.to_container(values[name]) if OmegaConf.is_config(values[name]) else values[name]
            check_value(name, unescape(plain_value), f)
        parsed: Any = unescape(OmegaConf.to_object(merged))
    except (ConfigKeyError, ConfigAttributeError) as error:
        raise UserError(unknown_key(str(error.full_key), schema)) from None
    except RecursionError:
        raise UserError("the settings are nested too deeply; see --help for their values") from None
    except OmegaConfBaseException as error:
        if behind := user_error_behind(error):  # raised inside a resolver
            raise behind from None
        raise UserError(wrong_value(str(error.full_key or ""), str(error.msg or error))) from None
    return parsed


def parse_data(data: Any, schema: type[S], source: Path) -> S:
    """The plain data that the file `source` holds, as an instance of `schema`. Raises `UserError`.

    It is data and no config: what looks like an interpolation, `${oc.env:HOME}`, is these characters.
    """
    if not isinstance(data, dict):
        raise UserError(f"{source}: holds no settings; restore it")
    check_size(data, source)
    try:
        return parse(escape(data), schema)
    except RecursionError:
        raise UserError(f"{source}: its settings are nested too deeply; restore it") from None
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def check_size(data: Any, source: Path) -> None:
    """Raise `UserError` if plain data is more than MAX_VALUES values, or unfolds to more.

    A checkpoint can hold the same list many times, or a list that holds itself: a few bytes for endless data.
    """
    stack, n_values = [data], 0
    while stack:
        value = stack.pop()
        n_values += 1
        if n_values > MAX_VALUES:
            raise UserError(f"{source}: holds more than {MAX_VALUES:,} values, which no config does; restore it")
        if isinstance(value, dict):
            stack += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            stack += value


def as_path(name: str, text: str) -> Path:
    """The path that is typed as the value of `name`; `~` is the home directory. Raises `UserError`."""
    if "\0" in text:
        raise UserError(f"{name}={text!r}: holds a null character, which no path can hold; leave it out")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{name}={text}: there is no user of this name; type the path without ~") from None


def unknown_key(name: str, schema: Any = Config, groups: tuple[str, ...] = ()) -> str:
    """The error message for a key that does not exist; it suggests the key with the most similar name."""
    known = [key for key, _ in settings(schema)] + [f.name for f in fields(schema)] + list(groups)
    if name in dict(settings(Config)) or name in {f.name for f in fields(Config)}:
        if name in known:
            return f"{name}: cannot take this value; see --help for its values"
        return f"{name}: is a setting of train, and none of this command; --help lists those it has"
    close = ending_with(name, known) or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close[:3])}?" if close else "; --help lists all"
    return f"{name}: there is no such key{hint}"


def ending_with(name: str, keys: Iterable[str]) -> list[str]:
    """The keys of which `name` is the last part: `optim.lr` for `lr`."""
    return [key for key in keys if key.rpartition(".")[2] == name]


def wrong_value(key: str, reason: str) -> str:
    """The message for a value that OmegaConf does not take, for the `reason` that it gives. `key` may be empty."""
    value = re.match(r"Value '(.*?)' of type", reason, re.DOTALL)
    where = f"{key}{f'={value[1]}' if value else ''}: " if key else ""
    return f"{where}{reason_for(reason)}; see --help for its values"


def reason_for(error: Any) -> str:
    """Why OmegaConf does not take a value, in plain words where it says the name of a type."""
    reason = (str(error or "").splitlines() or ["does not fit"])[0]
    kinds = {"Integer": "must be a whole number", "Float": "must be a number", "Boolean": "must be true or false"}
    if match := re.search(r"could not be converted to (\w+)", reason):
        return kinds.get(match[1], reason)
    if match := re.search(r"'(\S+)' is not a valid bool", reason):
        return kinds["Boolean"]
    return "may not be null" if "is not Optional" in reason else reason


def check_value(name: str, value: Any, f: Field[Any]) -> None:
    """Raise `UserError` for a value that is not among the choices of its field, or not in its range."""
    if value is None:
        return  # valid: `parse` has checked that the type allows null
    if value == "" and f.metadata["free_text"] and not f.metadata["may_be_empty"]:
        raise UserError(f"{name}=: is empty (an unset variable of the shell?); give a value, or leave it out")
    check_items(name, value, f)
    low, high, choices = f.metadata["low"], f.metadata["high"], f.metadata["choices"]
    default = None if f.default is MISSING else f.default
    hint = f"; the default is {name}={show(default)}" if default not in (None, REQUIRED) else ""
    # True == 1 in Python, so booleans are compared by identity: `1` is not the choice `true`.
    if choices and not any(value is c or (not isinstance(c, bool) and value == c) for c in choices):
        close = difflib.get_close_matches(SYNONYMS.get(value, str(value)), [str(c) for c in choices], n=1)
        hint = f"; did you mean {name}={close[0]}?" if close else hint
        raise UserError(f"{name}={show(value)}: must be one of {', '.join(map(show, choices))}{hint}")
    if isinstance(value, int | float) and not isinstance(value, bool) and not low <= value <= high:
        if high < 1000 or math.isnan(value):
            limits = f"from {low} to {high}"
        else:
            limits = f"at least {low}" if value < low else f"at most {high}"
        raise UserError(f"{name}={value}: must be {limits}{hint}")


def check_items(name: str, value: Any, f: Field[Any]) -> None:
    """Raise `UserError` for a list or dictionary of texts that holds something else, or that replaces nothing."""
    items = value.values() if isinstance(value, Mapping) else value
    if f.type in (list[str], list[str] | None, dict[str, str]):
        wrong = [item for item in items if not isinstance(item, str)]
        if wrong:
            raise UserError(f"{name}: holds {wrong[0]!r:.60}, which is no text; put quotes around each text in it")
    if f.type == dict[str, str] and "" in value:
        raise UserError(f'{name}: "" stands between any two characters, and cannot be replaced; leave it out')


def validate(config: Config) -> None:
    """Check what the range of a single key cannot express. Raises `UserError`."""
    check_model(config)
    dataset, optim = config.dataset, config.optim
    if len(optim.betas) != 2 or not all(0 <= beta < 1 for beta in optim.betas):
        raise UserError(f"optim.betas={optim.betas}: must be two numbers from 0 to below 1; try optim.betas=[0.9,0.95]")
    if config.train.grad_accum > config.train.batch_size:
        raise UserError(
            f"train.grad_accum={config.train.grad_accum}: more parts than rows in"
            f" train.batch_size={config.train.batch_size}; try train.grad_accum={config.train.batch_size}"
        )
    if optim.warmup_steps >= config.train.steps:
        raise UserError(f"optim.warmup_steps={optim.warmup_steps}: must be below train.steps={config.train.steps}")
    if not config.sampling.prompts:
        raise UserError('sampling.prompts=[]: needs at least one text; sampling.prompts=[""] samples without a prompt')
    if dataset.name == "file" and not dataset.path:
        raise UserError("dataset.path: dataset=file needs a file; add dataset.path=my.txt")
    if dataset.path and READERS[dataset.reader].embedded:
        path, name = typed("dataset.path", dataset.path), dataset.name
        raise UserError(f"{path}: {name} has no file; to read a file of your own, type dataset=file {path}")


def check_model(config: Config) -> None:
    model = config.model
    if model.ngrams == 1:
        raise UserError("model.ngrams=1: an n-gram has at least 2 characters; model.ngrams=0 is none")
    if model.n_embd % model.n_head:
        # The nearest multiple of n_head that is not 0.
        nearest = max(model.n_head, round(model.n_embd / model.n_head) * model.n_head)
        raise UserError(
            f"model.n_embd={model.n_embd}: not divisible by model.n_head={model.n_head}; try model.n_embd={nearest}"
        )
    if model.rotary and model.n_embd // model.n_head % 2:
        raise UserError(
            f"model.n_head={model.n_head}: rotary positions need heads of even width, not"
            f" {model.n_embd // model.n_head}; try model.n_embd={2 * model.n_head * (model.n_embd // model.n_head)}"
        )
