"""A text explained: how surprising each character was to a model, what else was likely, where its heads looked.

Figures and the page that shows them; the command prints them in the terminal.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jinja2 import Environment, PackageLoader

from microgpt.data.tokenizer import SHOWN_BOS as BOS
from microgpt.errors import UserError
from microgpt.insight.attention import Prediction, predictions
from microgpt.model.text_generator import TextGenerator

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

MAX_BITS = 6  # of the colour scale: a probability of 1 in 64, about that of a uniform guess
COLORS = ((183, 210, 237), (253, 243, 208), (240, 113, 91))  # for 0 bits, for half of MAX_BITS, for MAX_BITS and more


@dataclass(frozen=True)
class Explanation:
    """A text as tokens, and the prediction of each of them but the first, a BOS."""

    tokens: list[str]  # as they are shown
    places: list[Prediction]  # of tokens[1:]
    alphabet: list[str]  # how each id is shown
    chars: int  # of the raw text, counted as `val/bpc` counts them

    def summary(self) -> str:
        bits = [place.bits for place in self.places]
        i = bits.index(max(bits))
        return (
            f"{sum(bits):.1f} bits in all, {sum(bits) / self.chars:.3f} bits per character ({self.chars:,} characters);"
            f" most surprising: {self.tokens[i + 1]} after {''.join(self.tokens[: i + 1][-12:])}, {bits[i]:.1f} bits"
        )

    def likeliest(self, place: Prediction, top: int) -> list[tuple[str, float]]:
        return [(self.alphabet[token], p) for token, p in place.likeliest(top)]


def explain_text(generator: TextGenerator, text: str) -> Explanation:
    """What the model expected at each character of `text` and, in discrete mode, at its end. Raises `UserError`."""
    try:
        ids = generator.prompt_ids(text)
    except UserError as error:
        raise UserError(f"text={str(error).removeprefix('prompt=')}") from None
    if generator.mode.ends_at_bos:
        ids.append(generator.tokenizer.bos)  # the end of the document is predicted as well
    alphabet = generator.tokenizer.names()
    chars = len(generator.decode(ids[1:]))
    return Explanation([alphabet[i] for i in ids], predictions(generator.model, ids), alphabet, chars)


def percent(p: float) -> str:
    return f"{p:.0%}" if p >= 0.005 else "<1%"


def color(bits: float) -> str:
    """`#rrggbb`: blue for a character that was expected, red for one that was not."""
    i, part = divmod(min(bits / MAX_BITS, 0.999) * 2, 1)
    pair = COLORS[int(i)], COLORS[int(i) + 1]
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(*pair, strict=True))


def most_focused(places: Sequence[Prediction]) -> list[tuple[int, int]]:
    """(layer, head) of each, first those with the most weight on one character; the first BOS does not count."""
    looks = [(place.start, *place.attention.max(-1)) for place in places]
    strength = torch.stack([share * (start + j > 0) for start, share, j in looks]).sum(0)
    order = strength.flatten().argsort(descending=True, stable=True)
    return [divmod(i, strength.size(1)) for i in order.tolist()]


def most_attended(tokens: Sequence[str], i: int, place: Prediction, layer: int, head: int) -> str:
    """`h³ 87%`: the token with the most weight of the head, how far it is before tokens[i + 1], and its weight."""
    share, j = place.attention[layer, head].max(-1)
    back = i + 1 - place.start - int(j)
    return f"{tokens[i + 1 - back]}{str(back).translate(SUPERSCRIPTS)} {percent(share.item())}"


def page(explanation: Explanation, top: int, title: str) -> str:
    """A page of HTML with all of it inside; shares of attention are bytes (255: all), a head after the other."""
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
        colors=[color(place.bits) for place in explanation.places],
        scale=[color(MAX_BITS * i / 8) for i in range(9)],
        hot=MAX_BITS,
        bos=BOS,
    )
