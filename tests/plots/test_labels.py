"""Places of labels: none covers another, and each stays near what it names."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from microgpt.plots.labels import move_apart, put_in_front, spread


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(0.1, 10))
def test_spread_labels_keep_their_order_and_their_distance(places: list[float], gap: float) -> None:
    places = sorted(places)
    moved = spread(places, gap)
    assert all(after - before >= gap * (1 - 1e-6) for before, after in pairwise(moved))
    assert sum(moved) == pytest.approx(sum(places), abs=1e-6)


def test_labels_that_are_apart_stay_where_they_are() -> None:
    assert spread([1, 2, 5], 0.5) == [1, 2, 5]
    assert move_apart([(0, 0), (2, 0)], [(1, 1), (1, 1)]) == [(0, 0), (2, 0)]


def test_boxes_move_apart_the_shorter_way() -> None:
    (x0, y0), (x1, y1) = move_apart([(0, 0), (0.8, 0.1)], [(1, 1), (1, 1)])
    assert x1 - x0 == pytest.approx(1) and (y0, y1) == (0, 0.1)


def test_many_boxes_at_one_place_do_not_overlap() -> None:
    places = move_apart([(i / 100, i % 3 / 100) for i in range(12)], [(1, 1)] * 12)
    for i, (x, y) in enumerate(places):
        assert all(abs(x - a) > 0.99 or abs(y - b) > 0.99 for a, b in places[:i])


def test_a_text_in_front_of_lines_has_an_edge() -> None:
    text = Figure().text(0, 0, "a")
    put_in_front(text)
    assert len(text.get_path_effects()) == 1
