"""Arguments of a command: free text as it is typed, all else in Hydra's grammar, validated against the schema."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from microgpt.commands.arguments import print_help_if_asked, quote, read_arguments
from microgpt.commands.sample import SampleConfig
from microgpt.config.schema import REQUIRED, Config, key
from microgpt.errors import UserError


@dataclass
class Settings:
    run: str = key(REQUIRED, "which run", example="latest", free_text=True)
    top: int = key(5, "how many", low=3)
    which: str = key("best", "which of two", choices=["best", "last"])
    names: list[str] = key([], "some names", free_text=True)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_free_text_reaches_the_program_as_it_is_typed(text: str) -> None:
    argument = quote(f"prompt={text}", SampleConfig)
    if argument != f"prompt={text}":  # neither quoted by the user nor null
        (override,) = OverridesParser.create().parse_overrides([argument])
        assert override.value() == text


@pytest.mark.parametrize(
    ("schema", "typed", "quoted"),
    [
        (SampleConfig, "prompt=The ", "prompt='The '"),
        (SampleConfig, "prompt=it's", r"prompt='it\'s'"),
        (SampleConfig, "run=outputs/a,b=c", "run='outputs/a,b=c'"),
        (SampleConfig, "prompt='as is'", "prompt='as is'"),
        (Config, "resume=null", "resume=null"),
        (Config, "dataset.path=a b.txt", "dataset.path='a b.txt'"),
        (Config, "model.n_embd=3", "model.n_embd=3"),
        (Config, "--help", "--help"),
    ],
)
def test_free_text_is_quoted_and_nothing_else(schema: type, typed: str, quoted: str) -> None:
    assert quote(typed, schema) == quoted


def test_values_have_the_types_of_the_schema() -> None:
    settings = read_arguments(["run=a = 'b', # {c}", "top=7", "which=last", "names=[x/1, y=2 ,z]"], Settings)
    assert settings == Settings("a = 'b', # {c}", 7, "last", ["x/1", "y=2", "z"])
    assert read_arguments(["run=x", "names=a,b"], Settings) == Settings("x", names=["a", "b"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=x", "ran=y"], "ran: there is no such key; did you mean run?"),
        (["run=x", "latest"], "latest: cannot be read as key=value; use run=, top=, which=, names="),
        (["top=3"], "run: must be given (which run); add run=latest"),
        (["run=x", "top=2"], "top=2: must be at least 3; the default is top=5"),
        (["run=x", "top=few"], "top: Value 'few' of type 'str' could not be converted to Integer"),
        (["run=x", "top=3.5"], "top: Value '3.5' of type 'float' could not be converted to Integer"),
        (["run=x", "which=bst"], "which=bst: must be one of best, last; did you mean which=best?"),
        (["run=x", "top=(3"], "top=(3: cannot be read as key=value; put quotes around it"),
    ],
)
def test_a_user_error_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        read_arguments(words, Settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_shows_what_a_command_does_and_its_settings(flag: str, capsys: pytest.CaptureFixture[Any]) -> None:
    with pytest.raises(SystemExit) as ended:
        print_help_if_asked(["run=x", flag], "What it does.", Settings)
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "What it does."
    assert "  top                      how many; default 5" in lines
    assert "  which                    which of two (best, last); default best" in lines
    print_help_if_asked(["run=x"], "What it does.", Settings)
