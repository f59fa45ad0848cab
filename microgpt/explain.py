"""`python -m microgpt.explain run=latest text=charmander`: what a model expected at each character of a text.

Tells how surprising each was, what else was likely and where the heads looked, in the terminal and as one page of
HTML. A text with characters that the corpus lacks is first spelt as that is (in lower case, say). Further settings:
checkpoint=best|last, top=5 (likeliest characters told), out=page.html, device=auto.
"""

import base64
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jinja2 import Environment, PackageLoader
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microgpt.arguments import read_words, whole_number
from microgpt.config.registry import CHECKPOINTS, DEVICES
from microgpt.data.tokenizer import SHOWN_BOS as BOS
from microgpt.errors import UserError
from microgpt.failure import guard
from microgpt.insight.attention import Prediction, predictions
from microgpt.insight.scoring import normalise_like_corpus
from microgpt.model.device import find_device
from microgpt.model.text_generator import TextGenerator
from microgpt.plots.tables import wide_console
from microgpt.runs import directory
from microgpt.runs.opening import open_run

PAGE = "explain.html"
DEFAULTS = {"run": "", "text": "", "checkpoint": "best", "top": "5", "out": "", "device": "auto"}
NEEDED = {
    "run": "say which run to explain; add run=latest or run=outputs/…",
    "text": "say which text to explain; add text=abc",
}
CHOICES = {"checkpoint": CHECKPOINTS, "device": DEVICES}

LEGEND = f"""{BOS} begins and ends a document, or a paragraph of running text. Under each head (layer.head), where it
looked most while the character was predicted: h³ 87% is that share of its attention, at the h 3 characters back."""
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

HOT = 6  # bits: a character to which the model gave one chance in 64, about what a blind guess gives
COLORS = ((183, 210, 237), (253, 243, 208), (240, 113, 91))  # of 0 bits, of HOT / 2, of HOT and more


@dataclass(frozen=True)
class Explanation:
    """A text as tokens, and what the model thought of each of them but the first, a BOS."""

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


def explain(generator: TextGenerator, text: str) -> Explanation:
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
    """`#rrggbb`, from cool, which was expected, to hot, which surprised."""
    i, part = divmod(min(bits / HOT, 0.999) * 2, 1)
    pair = COLORS[int(i)], COLORS[int(i) + 1]
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(*pair, strict=True))


def show(explanation: Explanation, top: int, console: Console) -> None:
    """Print the text in colours, a line for each character, and the sum."""
    text = Text()
    for token, place in zip(explanation.tokens[1:], explanation.places, strict=True):
        text.append(token, f"black on {color(place.bits)}")
        if token in ("\\n", BOS):
            text.append("\n")
    n_heads = max(1, (console.width - 20 - 8 * top) // 9)
    text.rstrip()
    console.print(text, end="\n\n")
    console.print(draw_table(explanation, top, sharpest(explanation.places)[:n_heads]))
    console.print(Text(f"\n{explanation.summary()}\n{LEGEND}"), soft_wrap=True)


def sharpest(places: Sequence[Prediction]) -> list[tuple[int, int]]:
    """(layer, head) of each, first those that take most from one character; looks at the first BOS do not count."""
    looks = [(place.start, *place.attention.max(-1)) for place in places]
    strength = torch.stack([share * (start + j > 0) for start, share, j in looks]).sum(0)
    order = strength.flatten().argsort(descending=True, stable=True)
    return [divmod(i, strength.size(1)) for i in order.tolist()]


def draw_table(explanation: Explanation, top: int, heads: Sequence[tuple[int, int]]) -> Table:
    table = Table("", "bits", "rank", "likeliest", box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for layer, head in sorted(heads):
        table.add_column(f"{layer + 1}.{head + 1}", no_wrap=True)
    for i, place in enumerate(explanation.places):
        token, likeliest = explanation.tokens[i + 1], Text()
        for char, p in explanation.likeliest(place, top):
            likeliest.append(f"{char} {percent(p):5}", "bold" if char == token else "dim")
        looks = [Text(most_attended(explanation.tokens, i, place, *head)) for head in sorted(heads)]
        tile = Text(f" {token} ", f"black on {color(place.bits)}")
        table.add_row(tile, f"{place.bits:4.1f}", f"{place.rank:4}", likeliest, *looks)
    return table


def most_attended(tokens: Sequence[str], i: int, place: Prediction, layer: int, head: int) -> str:
    """`h³ 87%`: from which token the head took most, how far it is before tokens[i + 1], and its share."""
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
    environment = Environment(loader=PackageLoader("microgpt", "."), autoescape=True)
    return environment.get_template("explain.html.j2").render(
        title=title,
        summary=explanation.summary(),
        data=data | {"vocab_size": len(explanation.alphabet)},
        colors=[color(place.bits) for place in explanation.places],
        scale=[color(HOT * i / 8) for i in range(9)],
        hot=HOT,
        bos=BOS,
    )


def read_arguments(words: Sequence[str]) -> dict[str, str]:
    """The values of `key=value` words, as they were typed. Raises `UserError`."""
    values = read_words(words, DEFAULTS, NEEDED)
    for key, choices in CHOICES.items():
        if values[key] not in choices:
            default = f"the default is {key}={DEFAULTS[key]}"
            raise UserError(f"{key}={values[key]}: must be one of {', '.join(choices)}; {default}")
    whole_number("top", values["top"], 1, DEFAULTS["top"])
    return values


def main() -> None:
    values = read_arguments(sys.argv[1:])
    folder = directory.find_run(values["run"], "run", CHECKPOINTS[values["checkpoint"]])
    run = open_run(folder, values["checkpoint"], find_device(values["device"]))
    text = normalise_like_corpus(run, values["text"])
    explanation, top = explain(run.generator, text), int(values["top"])
    out = Path(values["out"] or folder).expanduser()
    if out.is_dir():
        out /= PAGE
    try:
        directory.write_atomically(out, page(explanation, top, run.title))
    except OSError as error:
        raise UserError(f"out={out}: {error.strerror}; name another file with out=") from None
    console = wide_console(at_least=120)
    show(explanation, top, console)
    if text != values["text"]:
        print(f"Normalised as its corpus was: {text!r}")
    print(f"page: {directory.relative(out.absolute())}")


if __name__ == "__main__":
    guard(main, __doc__)
