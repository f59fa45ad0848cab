"""Figures in a notebook: a picture of its own accord, in the style of all figures."""

import io

from matplotlib import rcParams
from PIL import Image

from microgpt.plots.inline import InlineFigure
from microgpt.plots.losses import loss_figure


def test_a_figure_shows_itself_as_a_picture_of_its_size() -> None:
    before = dict(rcParams)
    figure = loss_figure({"train/loss": ([1, 2], [3.0, 2.0]), "val/loss": ([2], [2.5])}, "names")
    assert isinstance(figure, InlineFigure)
    data, size = figure._repr_png_()
    picture = Image.open(io.BytesIO(data))
    assert size == {"width": 800, "height": 450} and picture.size == (1200, 675)
    assert rcParams == before
