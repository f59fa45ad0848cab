"""Figures of trained models: what is drawn, from plain numbers."""

import io
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from microgpt.plots.models import (
    KINDS,
    character_pictures,
    draw_novelty,
    move_texts_apart,
    save_attention,
    save_embeddings,
    save_matrix,
    save_tradeoff,
)
from microgpt.plots.style import VAL


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved while the test runs."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_the_matrix_shows_each_figure_and_marks_a_model_s_own_corpus_and_the_best(
    drawn: list[Figure], tmp_path: Path
) -> None:
    bpc = [[1.5, 2.25], [3.0, 4.5], [1.75, 2.0]]
    save_matrix(bpc, ["a", "b", "c"], ["left", "right"], [0, 1, 0], tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["left", "right"]
    texts = {text.get_text(): text for text in axes.texts}
    assert list(texts) == ["1.50", "2.25", "3.00", "4.50", "1.75", "2.00"]
    assert [key for key, text in texts.items() if is_framed(text)] == ["1.50", "4.50", "1.75"]
    assert [key for key, text in texts.items() if text.get_fontweight() == "bold"] == ["1.50", "2.00"]
    assert [key for key, text in texts.items() if text.get_color() == "white"] == ["4.50"]


def is_framed(text: Text) -> bool:
    from matplotlib.colors import same_color

    box = text.get_bbox_patch()
    assert box
    return same_color(box.get_edgecolor(), VAL)


def test_each_embedding_is_drawn_as_its_token_in_the_colour_of_its_kind(drawn: list[Figure], tmp_path: Path) -> None:
    save_embeddings([(0.0, 1.0), (2.0, -1.0), (1.0, 1.0)], 0.25, ["a", "k", "␣"], tmp_path / "x.png")
    (axes,) = drawn[0].axes
    seen = {text.get_text(): (text.get_position(), text.get_color()) for text in axes.texts}
    assert seen == {
        "a": ((0.0, 1.0), KINDS["vowels"]),
        "k": ((2.0, -1.0), KINDS["other letters"]),
        "␣": ((1.0, 1.0), KINDS["the rest"]),
    }
    assert "25%" in axes.get_title(loc="left") and (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_attention_has_one_panel_per_head_labelled_with_the_tokens(drawn: list[Figure], tmp_path: Path) -> None:
    maps = [[[[1.0, 0.0], [h / 10, 1 - h / 10]] for h in range(3)] for _ in range(2)]
    save_attention(maps, ["⏎", "a"], tmp_path / "x.png")
    panels = {axes.get_title(loc="left"): axes for axes in drawn[0].axes if axes.get_images()}
    assert list(panels) == [f"layer {i}, head {j}" for i in (1, 2) for j in (1, 2, 3)]
    image = panels["layer 2, head 3"].get_images()[0].get_array()
    assert image is not None and image.tolist() == maps[1][2]
    assert [label.get_text() for label in panels["layer 1, head 1"].get_xticklabels()] == ["⏎", "a"]


def test_the_tradeoff_has_labelled_points_and_two_marked_ones_in_each_panel(
    drawn: list[Figure], tmp_path: Path
) -> None:
    lines = {"top_k=3": [("0.4", (1.0, 0.1, 0.5)), ("0.8", (1.5, 0.3, 0.9))]}
    rings = {"the run's": (1.0, 0.1, 0.5), "recommended": (1.5, 0.3, 0.9)}
    save_tradeoff(lines, rings, 1.6, 1.65, tmp_path / "x.png", "names")
    for axes, n in zip(drawn[0].axes, (1, 2), strict=True):
        assert [text.get_text() for text in axes.texts] == ["0.4", "0.8"]
        assert [text.get_position() for text in axes.texts] == [(x[0], x[n]) for _, x in lines["top_k=3"]]
        labels = axes.get_legend_handles_labels()[1]
        assert labels[:3] == ["top_k=3", "the run's", "recommended"] and "held-out text" in labels
        assert axes.get_xlim()[0] < 1.0 and axes.get_xlim()[1] > 1.65


def test_characters_that_are_embedded_at_one_place_are_drawn_apart() -> None:
    figure = Figure()
    axes = figure.subplots()
    texts = [axes.text(0.5, 0.5 + i / 1000, name) for i, name in enumerate("fkm")]
    move_texts_apart(figure, texts)
    boxes = [text.get_window_extent() for text in texts]
    for i, a in enumerate(boxes):
        assert all(a.x0 > b.x1 - 0.5 or b.x0 > a.x1 - 0.5 or a.y0 > b.y1 - 0.5 or b.y0 > a.y1 - 0.5 for b in boxes[:i])
    assert len(axes.lines) >= 2  # from the places to the labels


def test_the_pictures_of_characters_are_a_square_grid() -> None:
    pixels = imread(io.BytesIO(character_pictures([*"abcde"], 20)), format="png")
    assert pixels.shape[:2] == (60, 60)
    inked = [[bool(pixels[20 * i : 20 * i + 20, 20 * j : 20 * j + 20, 3].any()) for j in range(3)] for i in range(3)]
    assert inked == [[True] * 3, [True, True, False], [False] * 3]


def test_the_novelty_of_samples_is_a_picture() -> None:
    final = {"new": 0.7, "training": 0.25, "held_out": 0.05, "training_if_not_memorised": 0.3, "length_mean": 6.0}
    assert draw_novelty(([10, 20], [0.9, 0.7]), final).startswith(b"\x89PNG")
