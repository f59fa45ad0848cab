"""Packing: documents are cut into pieces, and pieces fill rows."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.data.packing import best_fit, plan_rows

sizes_and_capacity = st.integers(1, 12).flatmap(
    lambda n: st.tuples(st.lists(st.integers(1, n), max_size=30), st.just(n))
)


@settings(deadline=None)
@given(sizes_and_capacity)
def test_best_fit_never_overfills_and_opens_no_row_without_need(case: tuple[list[int], int]) -> None:
    """A new row is opened only for an item that fits no open row, so that no two rows would fit into one."""
    sizes, capacity = case
    rows, n_rows = best_fit(sizes, capacity)
    filled = [sum(size for size, row in zip(sizes, rows, strict=True) if row == number) for number in range(n_rows)]
    assert all(0 < n <= capacity for n in filled)
    assert all(a + b > capacity for a, b in combinations(filled, 2))


@settings(deadline=None)
@given(sizes_and_capacity)
def test_best_fit_takes_the_row_that_got_its_least_sufficient_space_last(case: tuple[list[int], int]) -> None:
    """So the rows of a seed stay the same. The reference looks through all spaces for each item."""
    sizes, capacity = case
    expected: list[int] = []
    rows_by_space: list[list[int]] = [[] for _ in range(capacity + 1)]
    for size in sizes:
        space = next((space for space in range(size, capacity + 1) if rows_by_space[space]), None)
        row = max(expected, default=-1) + 1 if space is None else rows_by_space[space].pop()
        expected.append(row)
        rows_by_space[(capacity if space is None else space) - size].append(row)
    rows, n_rows = best_fit(sizes, capacity)
    assert rows.tolist() == expected and n_rows == max(expected, default=-1) + 1


def test_best_fit_takes_the_row_that_is_left_with_the_least_space() -> None:
    rows, n_rows = best_fit([6, 8, 2, 4], capacity=10)
    assert (rows.tolist(), n_rows) == ([0, 1, 1, 0], 2)


def test_a_plan_names_the_pieces_of_each_row() -> None:
    """Documents with 3, 6 and 1 inputs, of which the second is longer than a block."""
    plan = plan_rows(np.array([0, 3, 9]), np.array([3, 6, 1]), 4, pack=True)
    pieces = [list(zip(plan["starts"], plan["sizes"], strict=True))[a:b] for a, b in ((0, 2), (2, 3), (3, 4))]
    assert plan["first_piece"].tolist() == [0, 2, 3, 4]
    assert pieces == [[(0, 3), (9, 1)], [(3, 4)], [(7, 2)]]
    plan = plan_rows(np.array([0, 3, 9]), np.array([3, 6, 1]), 4, pack=False)
    assert (plan["starts"].tolist(), plan["first_piece"].tolist()) == ([0, 3, 7, 9], [0, 1, 2, 3, 4])
