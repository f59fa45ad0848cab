"""A whole GPT in one file of pure Python: autograd, tokenizer, transformer, Adam, training and sampling.

    python microgpt/gpt.py                        learn from names (or from names of emoji), then invent some
    python microgpt/gpt.py --data poems.txt       learn from any text file, a document a line
    python microgpt/gpt.py --resume --prompt ka   resume the latest run; a finished run only samples

An essay, to be read from top to bottom; it needs nothing but Python. The rest of the package does the same with
tensors (docs/gpt.md): the same weights give the same logits, losses and gradients there, only faster.
After Andrej Karpathy's microgpt, https://gist.github.com/karpathy/8627fe009c40f57531cb18360106ce95
"""

import argparse
import contextlib
import gc
import io
import itertools
import json
import math
import random
import signal
import statistics
import sys
import time
import unicodedata
import zlib
from operator import mul
from pathlib import Path


def read_documents(file):
    """The distinct lines of a text file; without a file, the shorter names of emoji, which Python contains."""
    if file:
        lines = Path(file).read_text(encoding="utf-8-sig").split("\n")
    else:
        lines = [name for code in range(0x1F300, 0x1F650) if len(name := unicodedata.name(chr(code)).lower()) < 16]
    stripped = (unicodedata.normalize("NFC", line).strip() for line in lines)
    return list(dict.fromkeys(filter(None, stripped)))


def split(documents, seed):
    """Nine tenths to train on, and a tenth held out: the loss there shows what was learnt and not memorised."""
    shuffled = random.Random(seed).sample(documents, len(documents))
    cut = len(shuffled) - max(1, round(0.1 * len(shuffled)))
    return shuffled[:cut], shuffled[cut:]


# The token of a character is its index in `chars`. One more token, BOS (len(chars)), begins and ends each document.
def encode(text, chars):
    """The tokens of a text. Raises `ValueError` for a character that is not in `chars`."""
    for char in text:
        if char not in chars:
            raise ValueError(f"the corpus holds no {char!r}; use characters of: {chars}")
    return [chars.index(char) for char in text]


# Every operation appends its result to the tape, after the numbers that it was computed from. Read backwards, the tape
# gives each number after all results that depend on it, when its gradient is complete. This is backpropagation
# (Linnainmaa 1976, "Taylor expansion of the accumulated rounding error").
tape = []


class Value:
    """A number, the numbers that it was computed from (its children), and its partial derivative for each of them."""

    __slots__ = ("children", "data", "grad", "local_grads")

    def __init__(self, data, children=(), local_grads=()):
        self.data, self.grad, self.children, self.local_grads = data, 0.0, children, local_grads
        if children:
            tape.append(self)

    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __sub__(self, other):
        return Value(self.data - other.data, (self, other), (1.0, -1.0))

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, n):
        return Value(self.data**n, (self,), (n * self.data ** (n - 1),))

    def exp(self):
        return Value(e := math.exp(self.data), (self,), (e,))

    def relu(self):
        return Value(max(0.0, self.data), (self,), (float(self.data > 0),))

    def backward(self):
        """Add ∂self/∂x to `x.grad` for each x that this number depends on, by the chain rule; empty the tape."""
        self.grad = 1.0
        for value in reversed(tape):
            grad = value.grad
            for child, local_grad in zip(value.children, value.local_grads):
                child.grad += local_grad * grad
        tape.clear()


def dot(a, b):
    """Σ aᵢbᵢ, as one number on the tape instead of 2n - 1 products and sums. ∂/∂aᵢ = bᵢ, ∂/∂bᵢ = aᵢ."""
    a_data, b_data = [x.data for x in a], [x.data for x in b]
    return Value(sum(map(mul, a_data, b_data)), (*a, *b), (*b_data, *a_data))


def logsumexp(x):
    """log Σ exp(xᵢ); the largest is subtracted first, against overflow. ∂/∂xᵢ = exp(xᵢ) / Σ exp(xⱼ), the softmax."""
    largest = max(xi.data for xi in x)
    exps = [math.exp(xi.data - largest) for xi in x]
    total = sum(exps)
    return Value(largest + math.log(total), x, [e / total for e in exps])


def softmax(x):
    """exp(xᵢ) / Σ exp(xⱼ) = exp(xᵢ - logsumexp(x)): positive numbers that sum to 1."""
    total = logsumexp(x)
    return [(xi - total).exp() for xi in x]


def norm(x):
    """x / sqrt(mean of x² + ε): RMSNorm (Zhang & Sennrich 2019), without weights."""
    scale = (dot(x, x) * (1 / len(x)) + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def linear(x, matrix):
    return [dot(row, x) for row in matrix]


def add(x, y):
    return [xi + yi for xi, yi in zip(x, y)]


class GPT:
    """A minimal GPT-2 (Radford et al. 2019) with RMSNorm, ReLU and no biases; reads one token at a time."""

    def __init__(self, vocab_size, block_size, n_embd, n_layer, n_head, rng):
        self.block_size, self.n_layer, self.n_head = block_size, n_layer, n_head
        shapes = {"token_embedding": (vocab_size, n_embd), "position_embedding": (block_size, n_embd)}
        for i in range(n_layer):
            shapes |= {f"blocks.{i}.attention.{name}": (n_embd, n_embd) for name in ("q", "k", "v", "proj")}
            shapes |= {f"blocks.{i}.mlp.fc": (4 * n_embd, n_embd), f"blocks.{i}.mlp.proj": (n_embd, 4 * n_embd)}
        shapes["head"] = (vocab_size, n_embd)
        self.weights = {}
        for name, (rows, columns) in shapes.items():
            # A sum of `columns` terms then keeps its scale. `proj` is smaller, as 2 n_layer outputs are added (GPT-2).
            std = (columns * (2 * n_layer if name.endswith("proj") else 1)) ** -0.5
            self.weights[name] = [[Value(rng.gauss(0, std)) for _ in range(columns)] for _ in range(rows)]

    def parameters(self):
        return [weight for matrix in self.weights.values() for row in matrix for weight in row]

    def empty_cache(self):
        """For each layer, the keys and the values of the tokens read so far."""
        return [([], []) for _ in range(self.n_layer)]

    def __call__(self, token, cache):
        """Logits (vocab_size) for what comes after `token`, which comes after the tokens in `cache`."""
        w, position = self.weights, len(cache[0][0])
        x = norm(add(w["token_embedding"][token], w["position_embedding"][position]))
        for i, (keys, values) in enumerate(cache):
            x = add(x, self.attention(norm(x), f"blocks.{i}.attention.", keys, values))
            hidden = [h.relu() for h in linear(norm(x), w[f"blocks.{i}.mlp.fc"])]
            x = add(x, linear(hidden, w[f"blocks.{i}.mlp.proj"]))
        return linear(x, w["head"])

    def attention(self, x, layer, keys, values):
        """softmax(q·k / sqrt(width)) · v for each head (Vaswani et al. 2017, section 3.2.1).

        The better a token's key fits the query, the larger the weight of its value in the sum. Later tokens have no
        keys yet, so attention is causal without a mask.
        """
        q, k, v = (linear(x, self.weights[layer + name]) for name in "qkv")
        keys.append(k)
        values.append(v)
        width, heads = len(x) // self.n_head, []
        for head in (slice(start, start + width) for start in range(0, len(x), width)):
            shares = softmax([dot(q[head], key[head]) * width**-0.5 for key in keys])
            heads += [dot(shares, channel) for channel in zip(*(value[head] for value in values))]
        return linear(heads, self.weights[layer + "proj"])


def losses(model, document, chars):
    """-log p, in nats, of each token of BOS + document + BOS but the first. Each block is read without the others."""
    tokens = [len(chars), *encode(document, chars), len(chars)]
    for start in range(0, len(tokens) - 1, model.block_size):
        cache = model.empty_cache()
        for token, target in itertools.pairwise(tokens[start : start + model.block_size + 1]):
            logits = model(token, cache)
            yield logsumexp(logits) - logits[target]


def evaluate(model, documents, chars):
    """The mean loss over all tokens of some documents, in nats per token."""
    nats = []
    for document in documents:
        nats += [loss.data for loss in losses(model, document, chars)]
        tape.clear()  # no gradients are needed
    return sum(nats) / len(nats)


def adam(parameters, m, v, step, lr, beta1=0.9, beta2=0.95, eps=1e-8):
    """Step `step` (the first is 1) of Adam (Kingma & Ba 2015, algorithm 1), with gradients clipped to [-1, 1].

    m and v are running means of the gradient and of its square; 1 - βᵗ corrects for their start at 0.
    """
    m_scale, v_scale = 1 - beta1**step, 1 - beta2**step
    for i, parameter in enumerate(parameters):
        grad = max(-1.0, min(1.0, parameter.grad))
        m[i] = beta1 * m[i] + (1 - beta1) * grad
        v[i] = beta2 * v[i] + (1 - beta2) * grad * grad
        parameter.data -= lr * (m[i] / m_scale) / (math.sqrt(v[i] / v_scale) + eps)
        parameter.grad = 0.0


def train(run, model, documents, held_out, file):
    """Train, one document a step, until the last step or Ctrl-C; save the run every 100 steps and at the end."""
    chars, steps, lr, stop = run["chars"], run["settings"]["steps"], run["settings"]["lr"], []
    signal.signal(signal.SIGINT, lambda *_: stop.append(True))  # Ctrl-C lets the step be completed
    while (step := len(run["losses"]) + 1) <= steps and not stop:
        nats = list(losses(model, documents[(step - 1) % len(documents)], chars))
        loss = dot(nats, [Value(1 / len(nats))] * len(nats))  # their mean
        if not math.isfinite(loss.data):
            raise refusal(f"--lr {lr}: the loss is {loss.data} at step {step}; start again with a smaller one")
        loss.backward()
        adam(model.parameters(), run["m"], run["v"], step, lr * (1 - (step - 1) / steps))
        run["losses"].append(loss.data)
        run["ema"].append(0.95 * run["ema"][-1] + 0.05 * loss.data if run["ema"] else loss.data)
        line, end = f"step {step:4}/{steps}  loss {loss.data:.4f}  EMA {run['ema'][-1]:.4f}", "\r"
        if step % 100 == 0 or step == steps:
            run["val"].append((step, evaluate(model, held_out, chars)))
            line, end = f"{line}  val {run['val'][-1][1]:.4f}  {sparkline(run['losses'])}", "\n"
            save(run, model, file)
        try:
            print(line, end=end if sys.stdout.isatty() else "\n", flush=True)
        except BrokenPipeError:  # the reader of the output is gone
            stop.append(True)
    save(run, model, file)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def draw(logits, temperature, topk, rng):
    """A token, drawn with weights exp(logit / temperature) from the `topk` likeliest and those tied with them."""
    largest, least = max(logits), sorted(logits)[-min(topk, len(logits))]  # for topk 0, [-0] is the smallest
    if temperature == 0:
        return logits.index(largest)
    weights = [math.exp((logit - largest) / temperature) if logit >= least else 0.0 for logit in logits]
    return rng.choices(range(len(logits)), weights)[0]


def generate(model, chars, rng, prompt="", temperature=1.0, topk=0, max_tokens=64):
    """The prompt and what the model writes after it, to the document's end or for `max_tokens` tokens.

    When a block is full, its later half is read into an empty cache. Raises `ValueError` for an unknown character.
    """
    tokens = [len(chars), *encode(prompt, chars)]
    cache, unread = model.empty_cache(), tokens[-model.block_size :]
    for _ in range(max_tokens):
        *_, logits = (model(token, cache) for token in unread)
        tape.clear()
        token = draw([logit.data for logit in logits], temperature, topk, rng)
        if token == len(chars):
            break
        tokens.append(token)
        unread = [token]
        if len(cache[0][0]) == model.block_size:
            cache, unread = model.empty_cache(), tokens[-max(1, model.block_size // 2) :]
    return "".join(chars[token] for token in tokens[1:])


# The algorithm ends here. The rest makes it a program: settings, figures, a checkpoint to resume from.
KEPT = {"settings", "losses", "ema", "val", "m", "v", "weights", "chars", "corpus"}  # the keys of a checkpoint
HEIGHTS = "_.-=*^"  # of a sparkline, low to high
NAMES = "datasets/names.txt"
SETTINGS = {  # name: (default, minimum, meaning)
    "data": ("", "", f"a text file, a document a line; else {NAMES} if it is there, or names of emoji"),
    "n_embd": (16, 1, "width: length of the vector of a token"),
    "n_layer": (1, 1, "depth: blocks of attention and MLP"),
    "n_head": (4, 1, "attention heads in a block; divides n_embd"),
    "block_size": (16, 1, "context: the most tokens that the model sees at once"),
    "seed": (1337, 0, "random seed of the split, the weights and the samples"),
    "steps": (1000, 1, "training steps, a document each"),
    "lr": (0.01, 0.0, "learning rate of the first step; it falls linearly to 0"),
    "temperature": (0.8, 0.0, "of sampling: below 1 safer, above 1 wilder, 0 always the likeliest"),
    "topk": (0, 0, "sample from so many of the likeliest tokens; 0: all"),
    "n_samples": (10, 0, "how many samples at the end"),
    "prompt": ("", "", "what the samples begin with"),
}


def refusal(message):
    """Print one line about a mistake of the user; returns what ends the program with status 2 when it is raised."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return SystemExit(2)


def sparkline(values, width=32):
    """A line of characters; the height of each is the mean of an equal share of the values."""
    width = min(width, len(values))
    means = [statistics.fmean(values[i * len(values) // width : (i + 1) * len(values) // width]) for i in range(width)]
    low, unit = min(means), (max(means) - min(means)) / (len(HEIGHTS) - 1) or 1
    return "".join(HEIGHTS[round((value - low) / unit)] for value in means)


def save_figure(run, file):
    """Save a figure of the losses, if matplotlib is installed."""
    with contextlib.suppress(ImportError):
        from matplotlib.figure import Figure

        figure, steps = Figure(figsize=(8, 4.5), layout="constrained"), range(1, len(run["losses"]) + 1)
        axes = figure.add_subplot(xlabel="step", ylabel="loss (nats per token)")
        axes.plot(steps, run["losses"], color="#9bb8d3", linewidth=0.8, label="train")
        axes.plot(steps, run["ema"], color="#1f5f99", label="train (EMA)")
        axes.plot(*zip(*run["val"]), color="#d1495b", marker="o", label="validation")
        axes.legend()
        figure.savefig(file, dpi=150)


def save(run, model, file):
    """Write all that resuming needs to `file`. If this fails, the old file is unchanged."""
    run["weights"] = {name: [[w.data for w in row] for row in matrix] for name, matrix in model.weights.items()}
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(run))
    partial.replace(file)


def read_settings(words):
    """The settings of a command line, and the run to resume. Exits with a message if a setting is wrong."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    parser.error = lambda message: sys.exit(refusal(f"{message}; --help lists all settings").code)
    for name, (default, _, meaning) in SETTINGS.items():
        note = "" if default == "" else f" (default {default})"
        parser.add_argument(f"--{name}", type=type(default), help=meaning + note, default=argparse.SUPPRESS)
    parser.add_argument("--resume", nargs="?", const="latest", metavar="RUN", help="resume the latest run, or this one")
    given = vars(parser.parse_args(words))
    resume = given.pop("resume")
    for name, value in given.items():
        if not value >= SETTINGS[name][1] or value == math.inf:
            parser.error(f"--{name} {value}: must be a number of at least {SETTINGS[name][1]}")
        if resume is not None and name not in ("steps", "lr", "temperature", "topk", "n_samples", "prompt"):
            parser.error(f"--{name} {value}: a resumed run keeps its own {name}; leave it out")
    return given, resume


def open_run(given, resume):
    """A new run or the one to resume, with the given settings, and the path of its checkpoint."""
    if resume is None:
        settings = {name: default for name, (default, _, _) in SETTINGS.items()} | given
        settings["data"] = settings["data"] or (NAMES if Path(NAMES).is_file() else "")
        folder = Path("outputs", "gpt", time.strftime("%Y-%m-%d_%H-%M-%S"))
        while folder.exists():
            folder = folder.with_name(f"{folder.name}+")
        return {"settings": settings, "losses": [], "ema": [], "val": [], "m": [], "v": []}, folder / "ckpt.json"
    found = sorted(Path("outputs", "gpt").glob("*/ckpt.json"), key=lambda file: file.stat().st_mtime)
    file = found[-1] if found and resume == "latest" else Path(resume, "ckpt.json")
    try:
        run = json.loads(file.read_text())
        kinds = [(run["settings"][name], default) for name, (default, _, _) in SETTINGS.items()]
        if KEPT - run.keys() or any(type(value) is not type(default) for value, default in kinds):
            raise ValueError
        run["settings"] |= given
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise refusal(f"--resume {resume}: no checkpoint of a run; outputs/gpt/ holds the existing ones") from None
    return run, file


def prepare(run):
    """The model of a run, the documents to train on, those held out, and the prompt."""
    settings = run["settings"]
    data, seed, prompt = settings["data"], settings["seed"], unicodedata.normalize("NFC", settings["prompt"])
    if settings["n_embd"] % settings["n_head"]:
        raise refusal(f"--n_head {settings['n_head']}: does not divide --n_embd {settings['n_embd']}")
    try:
        documents = read_documents(data)
    except (OSError, UnicodeDecodeError) as error:
        raise refusal(f"--data {data}: {error}; give a UTF-8 text file, a document a line") from None
    if len(documents) < 2:
        raise refusal(f"--data {data}: holds fewer than 2 different lines; give a file with a document a line")
    corpus = zlib.crc32("\n".join(documents).encode())
    if run.setdefault("corpus", corpus) != corpus:
        raise refusal(f"--resume: {data} is not what it was when the run began; start a new run")
    chars = run["chars"] = "".join(sorted(set("".join(documents))))
    try:
        encode(prompt, chars)
    except ValueError as error:
        raise refusal(f"--prompt {prompt!r}: {error}") from None
    sizes = {name: settings[name] for name in ("block_size", "n_embd", "n_layer", "n_head")}
    model = GPT(len(chars) + 1, **sizes, rng=random.Random(seed))
    run["m"], run["v"] = (run[moment] or [0.0] * len(model.parameters()) for moment in "mv")
    if "weights" in run:
        try:
            saved = [float(x) for name in model.weights for row in run["weights"][name] for x in row]
            for weight, number, _, _ in zip(model.parameters(), saved, run["m"], run["v"], strict=True):
                weight.data = number
        except (KeyError, ValueError, TypeError):
            raise refusal("--resume: the weights of the checkpoint do not fit its settings; start a new run") from None
    return model, *split(documents, seed), prompt


def main():
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for what a terminal cannot show
    gc.disable()  # there are no reference cycles, so reference counting frees everything
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    run, file = open_run(*read_settings(sys.argv[1:]))
    model, documents, held_out, prompt = prepare(run)
    settings, known = run["settings"], {*documents, *held_out}
    file.parent.mkdir(parents=True, exist_ok="weights" in run)
    source, few = settings["data"] or "names of emoji", held_out[:50]
    print(f"{source}: {len(documents):,} documents to train on, {len(held_out):,} held out (val: {len(few)} of them)")
    print(f"{len(model.parameters()):,} weights; in {file.parent}")
    train(run, model, documents, few, file)
    save_figure(run, file.with_name("loss.png"))
    if len(run["losses"]) < settings["steps"]:
        print(f"\ninterrupted; resume with: python {sys.argv[0]} --resume {file.parent}", file=sys.stderr)
        sys.exit(130)
    rng = random.Random(settings["seed"])
    for _ in range(settings["n_samples"]):
        sample = generate(model, run["chars"], rng, prompt, settings["temperature"], settings["topk"])
        print(f"  {sample}{'  (in the corpus)' * (sample in known)}")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        raise refusal(str(error)) from None
