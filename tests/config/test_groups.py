"""The folder of YAML files, and the groups in it."""

from pathlib import Path

import pytest
from settings import ROOT

from microgpt.config.groups import CONF, OWN_CONF, check_own_folder, choices, files, groups, own_folder, with_groups_in
from microgpt.errors import UserError


def test_the_groups_of_a_checkout_are_its_folders() -> None:
    assert ROOT / "conf" == CONF
    assert groups() == ("dataset", "experiment", "insight", "logger", "model", "optim", "sampling")


def test_the_choices_of_a_group_are_its_files() -> None:
    assert choices("optim") == ["adam", "adamw", "muon", "tuned"]
    assert choices("tune") == ["default"]


def test_a_checkout_keeps_what_is_saved() -> None:
    """What an installed wheel does instead is in tests/test_wheel.py."""
    assert OWN_CONF == CONF


def test_a_folder_of_ones_own_adds_choices_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    for name in ("haiku", "names"):
        (tmp_path / f"dataset/{name}.yaml").write_text("")
    with with_groups_in(tmp_path):
        assert own_folder() == tmp_path
        assert choices("dataset").count("names") == 1 and "haiku" in choices("dataset")
        assert choices("optim") == ["adam", "adamw", "muon", "tuned"]
        found = [file for file in files("dataset") if file.stem == "names"]
        assert found == [CONF / "dataset/names.yaml", tmp_path / "dataset/names.yaml"], "as Hydra searches"
        with with_groups_in(None):
            assert "haiku" not in choices("dataset")
    assert own_folder() is None and "haiku" not in choices("dataset")


@pytest.mark.parametrize(
    ("text", "reason"), [("nowhere", "there is no such folder"), ("a file", "is a file"), ("", "names")]
)
def test_what_is_no_folder_is_refused(text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").touch()
    with pytest.raises(UserError, match=f"--config-dir {text}: {reason}.*leave it out"):
        check_own_folder(text)
