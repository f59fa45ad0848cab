"""Print a script that makes the shell complete commands, settings and choices.

    eval "$(microgpt completion)"                    in bash; in zsh with shell=zsh
    microgpt completion shell=fish | source          in fish

In a checkout, train.py and sample.py have the completion of Hydra: docs/command_line.md.
"""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import Any

from microgpt.commands.arguments import print_help_if_asked, read_arguments, split_config_dir
from microgpt.config.schema import key, settings

BASH = """_microgpt() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    COMPREPLY=($(compgen -W "$(microgpt completion line="$COMP_LINE" 2>/dev/null)" -- "$word"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _microgpt microgpt"""
SCRIPTS = {
    "bash": BASH,
    "zsh": f"autoload -U +X bashcompinit && bashcompinit\n{BASH}",
    "fish": "complete -c microgpt -f -a '(microgpt completion line=(commandline -cp | string collect) 2>/dev/null)'",
}
HYDRA_COMMANDS = ("train", "sample")


@dataclass
class CompletionConfig:
    shell: str = key("bash", "the shell to print for", choices=list(SCRIPTS))
    line: str | None = key(
        None, "print the completions of this line instead, one per line", free_text=True, may_be_empty=True
    )


def main(words: Sequence[str]) -> None:
    print_help_if_asked(words, __doc__, CompletionConfig)
    config = read_arguments(words, CompletionConfig)
    print(SCRIPTS[config.shell] if config.line is None else "\n".join(complete(config.line)))


def complete(line: str) -> list[str]:
    """The possible completions of the last word of a command line."""
    from microgpt.__main__ import COMMANDS

    _, *words = line.split(" ")
    words = [word for word in words[:-1] if word] + words[-1:]  # an empty last word is completed too
    if len(words) < 2:
        return [name for name in COMMANDS if name.startswith("".join(words))]
    command, *_, last = words
    if command in HYDRA_COMMANDS:
        return hydra_completions(command, words[1:])
    if command not in COMMANDS:
        return []
    return [choice for choice in schema_completions(command) if choice.startswith(last)]


def hydra_completions(command: str, words: list[str]) -> list[str]:
    """The completions by Hydra: groups, their choices, and keys, with those in the folder of `--config-dir`."""
    module = import_module(f"microgpt.commands.{command}")
    folder, others = split_config_dir(words)
    os.environ["COMP_LINE"] = f"{command} {' '.join(others)}"  # the line that Hydra completes
    sys.argv[0] = command
    with redirect_stdout(io.StringIO()) as output:
        module.main([*([f"--config-dir={folder}"] if folder else []), "-sc", "query=bash"])
    return output.getvalue().split()


def schema_completions(command: str) -> Iterator[str]:
    """Each setting of a command as `key=`, and with each of its choices."""
    module = import_module(f"microgpt.commands.{command}")
    schemas = [value for value in vars(module).values() if is_settings(value, module.__name__)]
    for schema in schemas:
        for name, f in settings(schema):
            yield f"{name}="
            yield from (f"{name}={choice}" for choice in f.metadata["choices"] or ())


def is_settings(value: Any, module: str) -> bool:
    """Whether `value` is the schema of a command: a dataclass of this module whose fields are settings."""
    is_schema = isinstance(value, type) and is_dataclass(value) and value.__module__ == module
    return is_schema and all("doc" in f.metadata for f in fields(value))
