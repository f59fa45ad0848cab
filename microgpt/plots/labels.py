"""Where labels stand in a figure, so that none covers another: on a line, and in a plane."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.text import Text

MAX_ROUNDS = 200  # in which labels are moved apart

Point = tuple[float, float]


def put_in_front(text: "Text") -> None:
    """Give the text a white edge, so that it is readable on lines."""
    from matplotlib.patheffects import withStroke

    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Increasing numbers near increasing `places`, at least `gap` apart. Groups are centred on its places."""
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        # A group takes up len(group) * gap. It is joined with the one before it while they overlap.
        while len(groups) > 1 and mean(groups[-1]) - mean(groups[-2]) < gap * (len(groups[-1]) + len(groups[-2])) / 2:
            last = groups.pop()
            groups[-1] += last
    return [mean(group) + gap * (i - (len(group) - 1) / 2) for group in groups for i in range(len(group))]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def move_apart(places: Sequence[Point], sizes: Sequence[Point]) -> list[Point]:
    """Centres of boxes of these sizes (width, height) near `places`, moved until no two overlap.

    In each round, boxes that overlap are pushed away from each other, by half their overlap. After MAX_ROUNDS those
    that still overlap stay so: there may not be enough space for all.
    """
    centres = [list(place) for place in places]
    for _ in range(MAX_ROUNDS):
        overlapping = False
        for i in range(len(centres)):
            for j in range(i):
                offsets = [centres[i][axis] - centres[j][axis] for axis in (0, 1)]
                overlaps = [(sizes[i][axis] + sizes[j][axis]) / 2 - abs(offsets[axis]) for axis in (0, 1)]
                if min(overlaps) <= 1e-9:
                    continue
                overlapping = True
                axis = 0 if overlaps[0] < overlaps[1] else 1  # the shorter way
                push = math.copysign(overlaps[axis] / 2, offsets[axis])
                centres[i][axis] += push
                centres[j][axis] -= push
        if not overlapping:
            break
    return [(x, y) for x, y in centres]
