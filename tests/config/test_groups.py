"""The folder of YAML files, and the groups in it."""

from settings import ROOT

from microgpt.config.groups import CONF, choices, groups


def test_the_groups_of_a_checkout_are_its_folders() -> None:
    assert ROOT / "conf" == CONF
    assert groups() == ("dataset", "experiment", "insight", "model", "optim", "sampling")


def test_the_choices_of_a_group_are_its_files() -> None:
    assert choices("optim") == ["adam", "adamw", "muon", "tuned"]
    assert choices("tune") == ["default"]
