"""The space of a search: the choices or the range of each setting, checked, and drawn from in a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microgpt.config.checks import check_value, unknown_key, wrong_value
from microgpt.config.groups import choices, groups
from microgpt.config.schema import Config, settings, show
from microgpt.errors import UserError

if TYPE_CHECKING:
    from optuna import Trial


def check_space(space: Mapping[str, Any]) -> None:
    """Raise `UserError` for a setting that has neither choices nor a range, or whose values it cannot take."""
    if not space:
        raise UserError("space={}: holds no setting to search; see conf/tune/default.yaml")
    known = {*dict(settings(Config)), *groups()}
    for key, values in space.items():
        name = f"space.{key}={values}"
        if key not in known:
            raise UserError(f"space: {unknown_key(key, Config, groups())}")
        names: Sequence[str] = list(values) if isinstance(values, Mapping) else []
        if not (names == ["choices"] or ({"low", "high"} <= set(names) <= {"low", "high", "log"})):
            raise UserError(f"{name}: must have choices, or low and high; see conf/tune/default.yaml")
        if "choices" in names:
            listed = values["choices"]
            if not isinstance(listed, list) or not listed or not all(map(is_scalar, listed)):
                raise UserError(f"{name}: its choices must be a list of values; see conf/tune/default.yaml")
        elif not (is_number(values["low"]) and is_number(values["high"]) and values["low"] <= values["high"]):
            raise UserError(f"{name}: low and high must be numbers, and low not above high")
        elif not isinstance(values.get("log", False), bool) or (values.get("log") and values["low"] <= 0):
            raise UserError(f"{name}: log must be true or false, and true only if low is above 0")
        for value in values["choices"] if "choices" in names else (values["low"], values["high"]):
            check_drawn(key, value)


def check_drawn(key: str, value: Any) -> None:
    """Raise `UserError` if the setting or the group `key` cannot take the value."""
    if key in groups():
        if value not in choices(key):
            raise UserError(f"space.{key}: there is no {key}={show(value)}; choose from {', '.join(choices(key))}")
        return
    tree = OmegaConf.structured(Config)
    try:
        OmegaConf.update(tree, key, value)
        check_value(key, OmegaConf.select(tree, key), dict(settings(Config))[key])
    except OmegaConfBaseException as error:
        raise UserError(f"space.{key}: {wrong_value(key, str(error.msg or error))}") from None
    except UserError as error:
        raise UserError(f"space.{key}: {error}") from None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def suggest(trial: Trial, space: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One override for each setting of the space, which `check_space` has checked."""
    overrides = []
    for key, values in space.items():
        if "choices" in values:
            value = trial.suggest_categorical(key, values["choices"])
        elif isinstance(values["low"], int) and isinstance(values["high"], int):
            value = trial.suggest_int(key, values["low"], values["high"], log=values.get("log", False))
        else:
            value = trial.suggest_float(key, values["low"], values["high"], log=values.get("log", False))
            value = float(f"{value:.3g}")  # short in commands and in names of directories
        overrides.append(f"{key}={value}")
    return overrides
