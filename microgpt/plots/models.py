"""Figures of trained models: embeddings, attention maps, comparison of models, sampling settings.

All arguments are plain numbers and texts, without torch.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.plots.labels import move_apart, put_in_front
from microgpt.plots.style import BASELINE, EMA, FAINT, INK, LINES, VAL, draw, save, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

KINDS = {"vowels": VAL, "other letters": EMA, "the rest": BASELINE}
SMALL_PANELS = {"axes.grid": False, "axes.titlesize": 9, "font.size": 8}


def save_matrix(
    bpc: Sequence[Sequence[float]], models: Sequence[str], corpora: Sequence[str], own: Sequence[int], out: Path
) -> None:
    """Save a table in colours: `bpc[i][j]` is the bits per character of model i (row) on corpus j (column).

    The colour of a field is its distance from the lowest value in its column. own[i] is the column of the corpus that
    model i was trained on; that field has a frame. The lowest value of each column is bold.
    """
    from matplotlib.figure import Figure

    best = [min(column) for column in zip(*bpc, strict=True)]
    above_best = [[value - lowest for value, lowest in zip(row, best, strict=True)] for row in bpc]
    dark = 0.6 * max(map(max, above_best))  # above this the field is dark blue, and its text white
    with styled({"axes.grid": False}):
        figure = Figure(figsize=(3.4 + 1.05 * len(corpora), 1.9 + 0.5 * len(models)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(above_best, cmap="Blues", aspect="auto")
        for i, row in enumerate(bpc):
            for j, value in enumerate(row):
                color = "white" if above_best[i][j] > dark else INK
                frame = {"facecolor": "none", "edgecolor": VAL if own[i] == j else "none", "linewidth": 1.8}
                weight = "bold" if value == best[j] else "normal"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=color, weight=weight, bbox=frame)
        axes.set_xticks(range(len(corpora)), corpora, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(models)), models)
        axes.set(title="Bits per character", xlabel="validation split (framed: the model's own)", ylabel="model")
        figure.colorbar(image, label="above the lowest of the column")
        save(figure, out)


def save_embeddings(points: Sequence[Sequence[float]], share: float, names: Sequence[str], out: Path) -> None:
    """Save a scatter plot of the embeddings, with each character as its own mark.

    points (n, 2) are the first two principal components, `share` is their share of the variance, names (n,) are the
    characters.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with styled():
        figure = Figure(figsize=(7, 6), layout="constrained")
        axes = figure.subplots()
        axes.scatter([x for x, _ in points], [y for _, y in points], s=0)  # invisible: text does not set the limits
        axes.margins(0.06)
        size = 12 if len(names) <= 100 else 8
        style = {"ha": "center", "va": "center", "fontsize": size, "fontweight": "bold"}
        texts = [
            axes.text(x, y, name, color=KINDS[kind_of(name)], **style)
            for (x, y), name in zip(points, names, strict=True)
        ]
        axes.set(title=f"Embeddings: the first two principal components, {share:.0%} of the variance")
        axes.set(xticklabels=[], yticklabels=[])
        marks = [Line2D([], [], color=color, marker="o", linestyle="", label=kind) for kind, color in KINDS.items()]
        figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), fontsize="small")
        move_texts_apart(figure, texts)
        save(figure, out)


def move_texts_apart(figure: "Figure", texts: Sequence["Text"]) -> None:
    """Move texts that cover each other apart; a line leads from the point of a text to where it stands now."""
    figure.draw_without_rendering()  # lays out the figure, so that the places of the texts are known
    axes: Any = texts[0].axes
    boxes = [text.get_window_extent() for text in texts]  # in pixels
    centres = [((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in boxes]
    to_data = axes.transData.inverted()
    for text, old, new in zip(texts, centres, move_apart(centres, [box.size for box in boxes]), strict=True):
        if math.dist(old, new) > 1:
            (x0, y0), (x, y) = text.get_position(), to_data.transform(new)
            axes.plot([x0, x], [y0, y], color=BASELINE, linewidth=0.6, zorder=1, scalex=False, scaley=False)
            text.set_position((x, y))
            put_in_front(text)


def character_pictures(names: Sequence[str], size: int) -> bytes:
    """A PNG file with a picture of each character: a square grid of pictures of size x size pixels, row by row."""
    from matplotlib.figure import Figure

    side, dpi = math.ceil(math.sqrt(len(names))), 100
    with styled({"savefig.dpi": dpi, "savefig.transparent": True}):
        figure = Figure(figsize=(side * size / dpi, side * size / dpi))
        for i, name in enumerate(names):
            row, column = divmod(i, side)
            place = ((column + 0.5) / side, 1 - (row + 0.5) / side)
            points = 0.9 * size * 72 / dpi / max(1, len(name))
            figure.text(*place, name, ha="center", va="center", fontsize=points, fontweight="bold", color=INK)
        return draw(figure)


def kind_of(name: str) -> str:
    """The key in KINDS of a character."""
    if name.lower() in set("aeiouy"):
        return "vowels"
    return "other letters" if name.isalpha() else "the rest"


def save_attention(layers: Sequence[Sequence[Any]], tokens: Sequence[str], out: Path) -> None:
    """Save the attention maps, one panel per head: layers (L, H, T, T), in row t the attention weights of token t."""
    from matplotlib.figure import Figure

    with styled(SMALL_PANELS):
        figure = Figure(figsize=(2.4 * len(layers[0]) + 0.8, 2.5 * len(layers) + 0.6), layout="constrained")
        grid = figure.subplots(len(layers), len(layers[0]), squeeze=False)
        images = []
        for i, j in ((i, j) for i in range(len(layers)) for j in range(len(layers[0]))):
            images.append(grid[i, j].imshow(layers[i][j], cmap="Blues", vmin=0, vmax=1))
            grid[i, j].set(title=f"layer {i + 1}, head {j + 1}")
            grid[i, j].set_xticks(range(len(tokens)), tokens)
            grid[i, j].set_yticks(range(len(tokens)), tokens)
        figure.colorbar(images[0], ax=grid, shrink=0.6, label="attention weight")
        figure.suptitle(
            "How much each character (row) attends to itself and to those before it (columns)", x=0.01, ha="left"
        )
        save(figure, out)


# Share of the samples of a run, as in `result.json` → its name in a figure.
SHARES = {
    "new": "new",
    "training": "in the training set",
    "training_if_not_memorised": "expected there without memorisation",
    "held_out": "in the held-out set",
    "new_8grams": "new spans of 8 characters",
}


def draw_novelty(series: tuple[Sequence[int], Sequence[float]], final: Mapping[str, float]) -> bytes:
    """A PNG file: left the share of new samples (steps, shares) during training, right those of SHARES at the end."""
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        left.plot(*series, color=EMA, linewidth=1.8, marker="o", markersize=3.5)
        left.set(title="Share of the samples that is new", xlabel="step", ylim=(0, 1.02))
        left.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        shown = {label: final[name] for name, label in reversed(SHARES.items()) if name in final}
        bars = right.barh(list(shown), list(shown.values()), color=EMA, height=0.6)
        right.bar_label(bars, [f"{share:.1%}" for share in shown.values()], padding=4, color=INK)
        right.set(title="At the end", xlim=(0, 1.25), xticks=[])
        right.grid(visible=False)
        return draw(figure)


Place = tuple[float, float, float]  # trigram loss in nats per token; novelty and diversity, as shares


def save_tradeoff(
    lines: Mapping[str, Sequence[tuple[str, Place]]],
    rings: Mapping[str, Place],
    reference: float,
    limit: float,
    out: Path,
    title: str,
) -> None:
    """Save a figure of sampling settings: novelty (left) and diversity (right) over the trigram loss of the samples.

    `lines` holds, by the label of a line, its settings as (text of the box, place). `rings` holds the two places that
    are marked by a ring, by their labels. `reference` is the trigram loss of held-out text; places beyond `limit` count
    as less plausible than held-out text. Losses are in nats per token.
    """
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(11, 5.4), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True)
        for n, name in enumerate(("novelty", "diversity"), 1):
            axes = panels[n - 1]
            # zorder from 3: above the grid, and the boxes of a line directly above their line.
            for zorder, ((label, places), color) in enumerate(zip(lines.items(), LINES, strict=False), 3):
                xs, ys = [place[0] for _, place in places], [place[n] for _, place in places]
                axes.plot(xs, ys, color=color, linewidth=1.8, label=label, zorder=zorder)
                box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": color}
                for (text, _), x, y in zip(places, xs, ys, strict=True):
                    axes.text(x, y, text, color=color, fontsize=7, ha="center", va="center", bbox=box, zorder=zorder)
            for (label, place), size, color in zip(rings.items(), (18, 23), (INK, VAL), strict=True):
                ring = {"markersize": size, "markeredgecolor": color, "markeredgewidth": 2, "markerfacecolor": "none"}
                axes.plot(place[0], place[n], "o", label=label, zorder=9, **ring)
            axes.axvline(reference, color=BASELINE, linewidth=1.2, linestyle=(0, (4, 3)), label="held-out text")
            axes.margins(x=0.08, y=0.1)
            low, high = axes.get_xlim()
            high = max(high, limit + 0.1 * (limit - low))
            axes.axvspan(limit, high, color=FAINT, alpha=0.5, zorder=0, label="less plausible than held-out text")
            axes.set(xlim=(low, high), title=name, xlabel="trigram loss of the samples (nats per token)")
            axes.yaxis.set_major_formatter("{x:.0%}")
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", color=INK)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small", markerscale=0.5)
        save(figure, out)
