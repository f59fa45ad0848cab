"""Samples over time: at which steps they are drawn, and the file that holds them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.insight.samples_over_time import FILE, is_sampled, read_samples, write_samples


def test_samples_are_drawn_at_0_and_at_the_powers_of_two() -> None:
    assert [step for step in range(70) if is_sampled(step)] == [0, 1, 2, 4, 8, 16, 32, 64]


def test_samples_that_look_like_step_lines_are_read_as_samples(tmp_path: Path) -> None:
    samples = {0: ["", "step 4"], 2: ["a", "  b "]}
    write_samples(tmp_path, samples)
    assert (tmp_path / FILE).read_text(encoding="utf-8") == "step 0\n  \n  step 4\nstep 2\n  a\n    b \n"
    assert read_samples(tmp_path) == samples


@given(st.dictionaries(st.integers(0, 99), st.lists(st.text("a- ep0\n\u2028", max_size=9), min_size=1, max_size=3)))
def test_samples_are_read_as_they_were_written_and_a_single_one_as_its_lines(
    tmp_path_factory: pytest.TempPathFactory, samples: dict[int, list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, samples)
    expected = {step: texts if len(texts) > 1 else texts[0].split("\n") for step, texts in samples.items()}
    assert read_samples(folder) == expected
    text = (folder / FILE).read_text(encoding="utf-8")
    write_samples(folder, read_samples(folder))
    assert (folder / FILE).read_text(encoding="utf-8") == text


def test_samples_of_several_lines_begin_with_a_dash(tmp_path: Path) -> None:
    write_samples(tmp_path, {0: ["a\n- b\n\nc", "step 1\u2028x", "e"]})
    text = "step 0\n- a\n  - b\n  \n  c\n- step 1\u2028x\n- e\n"
    assert (tmp_path / FILE).read_text(encoding="utf-8") == text
    assert read_samples(tmp_path) == {0: ["a\n- b\n\nc", "step 1\u2028x", "e"]}


def test_the_steps_are_in_order_whatever_the_order_of_the_samples(tmp_path: Path) -> None:
    write_samples(tmp_path, {16: ["a"], 2: ["b"], 0: ["c"]})
    assert list(read_samples(tmp_path)) == [0, 2, 16]


def test_what_was_read_can_be_written_again(tmp_path: Path) -> None:
    """A resumed run does this. Each line of a sample is read as one sample; the file stays the same."""
    write_samples(tmp_path, {0: ["a\n\nb"], 1: ["Ünï ☃"]})
    text = (tmp_path / FILE).read_text(encoding="utf-8")
    write_samples(tmp_path, read_samples(tmp_path))
    assert (tmp_path / FILE).read_text(encoding="utf-8") == text


def test_without_a_file_there_are_no_samples(tmp_path: Path) -> None:
    assert read_samples(tmp_path) == {}


def test_damaged_steps_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_samples(tmp_path, {0: ["aé"], 1: ["bé"], 2: ["c"]})
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes().replace("bé".encode(), b"b\xe9"))
    assert read_samples(tmp_path) == {0: ["aé"], 2: ["c"]}
    assert "the samples of 1 steps are damaged" in caplog.text
    file.write_text("something else")
    assert read_samples(tmp_path) == {}


def test_a_line_separator_in_a_sample_is_kept(tmp_path: Path) -> None:
    samples = {0: ["a\x0bb\u2028c\x85d", ""]}
    write_samples(tmp_path, samples)
    assert read_samples(tmp_path) == samples
