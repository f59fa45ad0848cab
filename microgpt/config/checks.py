"""Plain data → an instance of the schema. Checks types, ranges, unknown keys, and settings that depend on others."""

import difflib
import math
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from microgpt.config.free_text import escape, unescape
from microgpt.config.schema import REQUIRED, Config, settings, show
from microgpt.errors import UserError, user_error_behind

S = TypeVar("S")


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
            check_value(name, unescape(values[name]), f)
        parsed: Any = unescape(OmegaConf.to_object(merged))
    except (ConfigKeyError, ConfigAttributeError) as error:
        raise UserError(unknown_key(str(error.full_key), schema)) from None
    except OmegaConfBaseException as error:
        if behind := user_error_behind(error):  # raised inside a resolver
            raise behind from None
        reason = str(error.msg or error).splitlines()[0]
        key = f"{error.full_key}: " if error.full_key else ""
        raise UserError(f"{key}{reason}; see --help for its values") from None
    return parsed


def parse_data(data: Any, schema: type[S], source: Path) -> S:
    """The plain data that the file `source` holds, as an instance of `schema`. Raises `UserError`.

    It is data and no config: what looks like an interpolation, `${oc.env:HOME}`, is these characters.
    """
    if not isinstance(data, dict):
        raise UserError(f"{source}: holds no settings; restore it")
    try:
        return parse(escape(data), schema)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def unknown_key(name: str, schema: Any = Config, groups: tuple[str, ...] = ()) -> str:
    """The error message for a key that does not exist; it suggests the key with the most similar name."""
    known = [key for key, _ in settings(schema)] + [f.name for f in fields(schema)] + list(groups)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"{name}: there is no such key" + (f"; did you mean {close[0]}?" if close else "; --help lists all")


def check_value(name: str, value: Any, f: Field[Any]) -> None:
    """Raise `UserError` for a value that is not among the choices of its field, or not in its range."""
    if value is None:
        return  # valid: `parse` has checked that the type allows null
    if value == "" and f.metadata["free_text"] and not f.metadata["may_be_empty"]:
        raise UserError(f"{name}=: is empty (an unset variable of the shell?); give a value, or leave it out")
    low, high, choices = f.metadata["low"], f.metadata["high"], f.metadata["choices"]
    default = None if f.default is MISSING else f.default
    hint = f"; the default is {name}={show(default)}" if default not in (None, REQUIRED) else ""
    # True == 1 in Python, so booleans are compared by identity: `1` is not the choice `true`.
    if choices and not any(value is c or (not isinstance(c, bool) and value == c) for c in choices):
        close = difflib.get_close_matches(str(value), [str(c) for c in choices], n=1)
        hint = f"; did you mean {name}={close[0]}?" if close else hint
        raise UserError(f"{name}={show(value)}: must be one of {', '.join(map(show, choices))}{hint}")
    if isinstance(value, int | float) and not isinstance(value, bool) and not low <= value <= high:
        if high < 1000 or math.isnan(value):
            limits = f"from {low} to {high}"
        else:
            limits = f"at least {low}" if value < low else f"at most {high}"
        raise UserError(f"{name}={value}: must be {limits}{hint}")


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


def check_model(config: Config) -> None:
    model = config.model
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
