"""Normalisation: its steps in their order, and what it says it has changed."""

from collections import Counter

import pytest

from microgpt.config.schema import DatasetConfig
from microgpt.data.normalisation import Normaliser


def changed(text: str, **settings: object) -> tuple[str, dict[str, int]]:
    changes = Counter[str]()
    return Normaliser(**settings)(text, changes), dict(+changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("form", "text", "expected", "lines"),
    [
        ("NFC", "e\u0301va\nmia\ne\u0301", "éva\nmia\né", 2),
        ("NFD", "éva\nmia", "e\u0301va\nmia", 1),
        ("NFKC", "ﬁn\nﬁn\na", "fin\nfin\na", 2),
        ("none", "e\u0301 é", "e\u0301 é", 0),
        # NFC puts the points of a Hebrew letter in another order: here dagesh (21) and qamats (18).
        ("NFC", "\u05d1\u05bc\u05b8", "\u05d1\u05b8\u05bc", 1),
        ("none", "\u05d1\u05bc\u05b8", "\u05d1\u05bc\u05b8", 0),
        ("NFC", "plain", "plain", 0),
    ],
)
def test_the_normal_form_is_a_setting_and_changed_lines_are_counted(
    form: str, text: str, expected: str, lines: int
) -> None:
    assert changed(text, form=form) == (expected, {"normalized": lines} if lines else {})


def test_lower_case_and_replacements_are_counted() -> None:
    assert changed("Ab\nab\nÉ", lowercase=True) == ("ab\nab\né", {"lowercased": 2})
    assert changed("a-b-c\n", replace={"-": "+", "+": ""}) == ("abc\n", {"replaced": 4})


def test_the_steps_come_in_their_order() -> None:
    """A replacement finds what is in lower case and composed, and a newline at each end of a line."""
    settings = {"lowercase": True, "replace": {"é\r\n": "x\r\n", "x\n": "y ", "E": "!"}}
    assert changed("E\u0301\r\ne\r", **settings)[0] == "y e\n"


def test_lines_end_with_a_newline_alone() -> None:
    assert changed("a\r\nb\rc\n\r\nd\u2028\x85\x0b\x0c") == ("a\nb\nc\n\nd\u2028\x85\x0b\x0c", {})


def test_the_settings_of_a_corpus_are_those_of_its_normaliser() -> None:
    dataset = DatasetConfig(name="a", lowercase=True, normalize="none", replace={"x": "y"})
    assert Normaliser.of(dataset) == Normaliser("none", True, {"x": "y"})
