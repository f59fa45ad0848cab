"""A figure of matplotlib that a notebook shows, whatever the backend. Imported when used, as it imports matplotlib."""

import io

from matplotlib.figure import Figure

from microgpt.plots.style import styled

PIXELS_PER_INCH = 100  # of the size at which it is shown; the picture has more, for sharp screens


class InlineFigure(Figure):
    """A figure that is shown as a picture where it is the value of a cell."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        buffer = io.BytesIO()
        with styled():
            self.savefig(buffer, format="png")
        width, height = (round(PIXELS_PER_INCH * inches) for inches in self.get_size_inches())
        return buffer.getvalue(), {"width": width, "height": height}
