"""The folder of YAML files, and the groups in it."""

from settings import ROOT

from microgpt.config.groups import CONF, OWN_CONF, choices, groups, program


def test_the_groups_of_a_checkout_are_its_folders() -> None:
    assert ROOT / "conf" == CONF
    assert groups() == ("dataset", "experiment", "insight", "logger", "model", "optim", "sampling")


def test_the_choices_of_a_group_are_its_files() -> None:
    assert choices("optim") == ["adam", "adamw", "muon", "tuned"]
    assert choices("tune") == ["default"]


def test_a_checkout_names_its_entry_points_and_keeps_what_is_saved() -> None:
    """What an installed wheel does instead is in tests/test_wheel.py."""
    assert (program("train"), program("sample")) == ("python train.py", "python sample.py")
    assert OWN_CONF == CONF
