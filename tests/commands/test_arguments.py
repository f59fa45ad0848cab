"""Arguments of a command: free text as it is typed, all else in Hydra's grammar, validated against the schema."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from microgpt.commands.arguments import print_help_if_asked, quote, read_arguments, unquote
from microgpt.commands.sample import SampleConfig
from microgpt.config.checks import parse
from microgpt.config.free_text import unescape
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
        assert unescape(override.value()) == unquote(text)


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
        (["run=x", "top=few"], "top=few: must be a whole number"),
        (["run=x", "top=3.5"], "top=3.5: must be a whole number"),
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
    assert "  top                      how many (integer from 3; default 5)" in lines
    assert "  which                    which of two (best, last; default best)" in lines
    print_help_if_asked(["run=x"], "What it does.", Settings)


@given(st.text(st.sampled_from("${}?\\'\"a,= ") | st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_free_text_is_no_template(text: str) -> None:
    """Neither for a command nor in the composed config: `${seed}` and `???` are characters like others."""
    if quote(f"prompt={text}", SampleConfig) == f"prompt={text}" or re.fullmatch(r"(['\"]).*\1", text, re.DOTALL):
        return  # null, or in quotes
    assert read_arguments([f"run={text}"], Settings).run == text
    (override,) = OverridesParser.create().parse_overrides([quote(f"prompt={text}", SampleConfig)])
    config = OmegaConf.create({"run": "x", "prompt": override.value(), "seed": 7})
    assert parse(config, SampleConfig).prompt == text


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ('sampling.prompts=["${p}",Q]', ["${p}", "Q"]),
        ("sampling.prompts=[${seed}]", ["${seed}"]),
        ("sampling.prompts=[Où, 'ça va?']", ["Où", "ça va?"]),
        ('dataset.replace={"\\n":"","é":"e"}', {"\n": "", "é": "e"}),
        ("dataset.replace={a:b,-:' '}", {"a": "b", "-": " "}),
        ("dataset.replace={'{': '[', \"'\": \"`\"}", {"{": "[", "'": "`"}),
    ],
)
def test_lists_and_dictionaries_of_texts_are_read_in_hydras_grammar_or_as_yaml(typed: str, value: object) -> None:
    for word in (typed, unescape(quote(typed, Config))):  # as it is typed, and as a sweep that is resumed has it
        (override,) = OverridesParser.create().parse_overrides([quote(word, Config)])
        config = OmegaConf.create({"dataset": {"name": "x"}})
        OmegaConf.update(config, override.key_or_group, override.value())
        parsed = parse(config, Config)
        assert value in (parsed.sampling.prompts, parsed.dataset.replace)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b (1).txt", "c,d.txt", "it's.txt", "${seed}.txt"):
        (tmp_path / name).write_text("x")


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("a.txt,b (1).txt", ["a.txt", "b (1).txt"]),
        ("choice(a.txt, b (1).txt)", ["a.txt", "b (1).txt"]),
        ("'a.txt',\"none.txt\"", ["a.txt", "none.txt"]),
        ("c,d.txt", ["c,d.txt"]),
        ("a.txt,c,d.txt,it's.txt", ["a.txt", "c,d.txt", "it's.txt"]),
        ("'c,e.txt',${seed}.txt", ["c,e.txt", "${seed}.txt"]),
        ("b (1).txt", ["b (1).txt"]),
    ],
)
def test_in_a_sweep_each_path_between_commas_is_a_job(value: str, paths: list[str], files: None) -> None:
    typed = f"dataset.path={value}"
    for word in (typed, unescape(quote(typed, Config, sweep=True))):  # and as a sweep that is resumed has it
        (override,) = OverridesParser.create().parse_overrides([quote(word, Config, sweep=True)])
        values = override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]
        assert [unescape(unquote(str(path))) for path in values] == paths
    assert read_arguments(["run=x", f"names={value}"], Settings).names == paths


def test_without_a_sweep_a_path_is_taken_as_it_stands(files: None) -> None:
    assert quote("dataset.path=a.txt,c,d.txt", Config) == "dataset.path='a.txt,c,d.txt'"
    assert quote("prompt=a.txt,b (1).txt", SampleConfig) == "prompt='a.txt,b (1).txt'"
