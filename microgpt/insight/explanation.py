"""Explains a model's predictions on a text: surprisal, rank, likely alternatives and attention at each character.

Holds the figures and the HTML page that shows them. The command `explain` prints them in the terminal.
"""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jinja2 import Environment, PackageLoader

from microgpt.data.tokenizer import BOS_SYMBOL as BOS
from microgpt.errors import UserError
from microgpt.insight.attention import Prediction, predictions
from microgpt.model.text_generator import TextGenerator
from microgpt.plots.style import page_colors

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

MAX_CHARACTERS = 5_000  # of a text: the page holds all attention weights, 5 kB per character for dataset=shakespeare
TOP_INLINE, TILES_INLINE = 3, 16  # in a notebook: likeliest characters to list, characters in a row

MAX_BITS = 6  # end of the colour scale: a probability of 1/64
SHADES = 9  # of that scale, from blue for 0 bits to red: --s0 to --s8 in the style of pages


@dataclass(frozen=True, repr=False)
class Explanation:
    """A text as tokens, of which the first is a BOS, and the predictions of all others."""

    tokens: list[str]  # printable, (T + 1,)
    places: list[Prediction]  # (T,) of tokens[1:]
    alphabet: list[str]  # (V,) the printable form of each id
    chars: int  # of the raw text, counted as for `val/bpc`

    def summary(self) -> str:
        """The bits in all, the bits per character, and the most surprising character, in one line."""
        bits = [place.bits for place in self.places]
        i = bits.index(max(bits))
        return (
            f"{sum(bits):.1f} bits in all, {sum(bits) / self.chars:.3f} bits per character ({self.chars:,} characters);"
            f" most surprising: {self.tokens[i + 1]} after {''.join(self.tokens[: i + 1][-12:])}, {bits[i]:.1f} bits"
        )

    def likeliest(self, place: Prediction, top: int) -> list[tuple[str, float]]:
        """(character, probability) of the `top` likeliest tokens, likeliest first."""
        return [(self.alphabet[token], p) for token, p in place.likeliest(top)]

    @property
    def bits(self) -> list[float]:
        """The surprisal in bits of each of tokens[1:]."""
        return [place.bits for place in self.places]

    def _repr_html_(self) -> str:
        """For a notebook: each character on the colour of its surprisal, with the bits and what was likeliest."""
        tiles = []
        for token, place in zip(self.tokens[1:], self.places, strict=True):
            likeliest = "<br>".join(
                f"{html.escape(char)} <small>{percent(p)}</small>" for char, p in self.likeliest(place, TOP_INLINE)
            )
            tiles.append(
                f'<td style="text-align: center; vertical-align: top; padding: 2px 5px">'
                f'<div style="background: {color(place.bits)}; color: black; font: 1.2em monospace; padding: 4px 6px">'
                f"{html.escape(token)}</div><small>{place.bits:.1f} bits</small><br>{likeliest}</td>"
            )
        rows = [tiles[i : i + TILES_INLINE] for i in range(0, len(tiles), TILES_INLINE)]
        body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
        return f"<table>{body}</table><p>{html.escape(self.summary())}</p>"

    def __repr__(self) -> str:
        return f"Explanation({self.summary()})"


def explain_text(generator: TextGenerator, text: str) -> Explanation:
    """The predictions for each character of `text` and, in discrete mode, for its end.

    Raises `UserError` for a character that the corpus does not have, for more than MAX_CHARACTERS, and if there is
    nothing to predict: an empty part of a running text.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(
            f"text: has {len(text):,} characters, and explain shows at most {MAX_CHARACTERS:,}; give a shorter text"
        )
    try:
        ids = generator.normalised_ids(text)
    except UserError as error:
        raise UserError(f"text={str(error).removeprefix('prompt=')}") from None
    if generator.mode.ends_at_bos:
        ids.append(generator.tokenizer.bos)  # the end of the document is predicted as well
    if len(ids) < 2:
        raise UserError("text=: holds no character to predict; give a text with some")
    alphabet = generator.tokenizer.names()
    chars = len(generator.decode(ids[1:]))
    return Explanation([alphabet[i] for i in ids], predictions(generator.model, ids), alphabet, chars)


def percent(p: float) -> str:
    """`0.42` → `42%`, `0.0052` → `0.5%`; less than half a tenth of a percent is `<0.1%`."""
    if p < 0.0005:
        return "<0.1%"
    return f"{p:.1%}" if p < 0.00995 else f"{p:.0%}"


def shade(bits: float) -> int:
    """Which of the SHADES a surprisal in bits has, from 0."""
    return round(min(bits / MAX_BITS, 1) * (SHADES - 1))


def color(bits: float) -> str:
    """The colour of a surprisal in bits on a light page, as `#rrggbb`."""
    return re.findall(r"--s\d: (#\w+)", page_colors())[shade(bits)]  # the light ones are the first


def most_focused(places: Sequence[Prediction]) -> list[tuple[int, int]]:
    """(layer, head) of all heads, most focused first.

    A head's focus is its highest attention weight on one character, summed over `places`. A place at which the highest
    weight is on the first BOS adds 0, because many heads attend to it by default.
    """
    focus = []  # (L, H) of each place
    for place in places:
        weight, j = place.attention.max(-1)  # (L, H): the highest weight of each head, and the index in its context
        is_first_bos = place.start + j == 0
        focus.append(weight.masked_fill(is_first_bos, 0))
    total = torch.stack(focus).sum(0)  # (L, H)
    order = total.flatten().argsort(descending=True, stable=True)  # (L · H,): layer * H + head
    return [divmod(i, total.size(1)) for i in order.tolist()]


def most_attended(tokens: Sequence[str], i: int, place: Prediction, layer: int, head: int) -> str:
    """`h³ 87%`: the token with the head's highest weight, its distance before tokens[i + 1] in tokens, the weight."""
    weight, j = place.attention[layer, head].max(-1)  # j: index in the context, which begins at tokens[place.start]
    attended = place.start + int(j)
    distance = i + 1 - attended
    return f"{tokens[attended]}{str(distance).translate(SUPERSCRIPTS)} {percent(weight.item())}"


def page(explanation: Explanation, top: int, title: str) -> str:
    """The explanation as one HTML page that loads no other files, with the `top` likeliest characters at each place."""
    # Attention weights (L, H, n_context) are written as one byte each, 255 for a weight of 1, in base64.
    places = [
        {
            "bits": place.bits,
            "rank": place.rank,
            "likeliest": explanation.likeliest(place, top),
            "start": place.start,
            "attention": base64.b64encode(bytes((place.attention * 255).round().int().flatten().tolist())).decode(),
        }
        for place in explanation.places
    ]
    n_layer, n_head, _ = explanation.places[0].attention.shape
    data = {"tokens": explanation.tokens, "places": places, "n_layer": n_layer, "n_head": n_head}
    environment = Environment(loader=PackageLoader("microgpt.insight", "."), autoescape=True)
    return environment.get_template("explain.html.j2").render(
        title=title,
        summary=explanation.summary(),
        data=data | {"vocab_size": len(explanation.alphabet)},
        style=page_colors(),
        shades=[shade(place.bits) for place in explanation.places],
        max_bits=MAX_BITS,
        bos=BOS,
    )
