"""The command line: `microgpt <command> key=value …`, or `python -m microgpt <command> …`.

A command is a module of `microgpt.commands` with a function `main(words)`, and a line in the table below.
"""

import difflib
import importlib
import sys

from microgpt.errors import UserError, packages_needed

with packages_needed():
    from microgpt.commands.failure import report_errors
    from microgpt.config.program import version

COMMANDS = {
    "train": "train a model, or with -m a sweep of models",
    "sample": "generate texts with a trained model",
    "corpora": "list the corpora: what each holds, and which are cached",
    "explain": "show what a model predicted at each character of a text",
    "compare": "score a text, or every corpus, with every trained model",
    "guess": "guess which corpus a text is from",
    "tradeoff": "find the temperature and top_k that give new and plausible samples",
    "tune": "search for better settings with Optuna",
    "page": "write a run as one page with the model in it, which generates text in any browser",
    "summarize": "summarize the runs below a directory in a table, a figure and a page",
    "export": "write a model for others: weights as safetensors, config and tokenizer as JSON, and a card",
    "convert": "convert a run of gpt.py for the other commands",
    "completion": "print a script for shell completion of commands and settings",
}

USAGE = """microgpt: train, sweep and sample character-level GPTs.

  microgpt <command> key=value …

Commands:

{commands}

microgpt <command> --help lists the settings of a command, microgpt --version the versions in use."""


def main() -> None:
    report_errors(lambda: run(sys.argv[1:]))


def run(words: list[str]) -> None:
    """Call the command that the first word names. Raises `UserError` if there is no such command."""
    if not words or words[0] in ("-h", "--help"):
        print(USAGE.format(commands="\n".join(f"  {name:<12} {line}" for name, line in COMMANDS.items())))
        return
    name, *rest = words
    if name == "--version":
        print(version())
        return
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "microgpt --help lists all"
        raise UserError(f"{name}: there is no such command; {hint}")
    importlib.import_module(f"microgpt.commands.{name}").main(rest)


if __name__ == "__main__":
    main()
