"""Sample from a trained run.

    python sample.py run=latest                          with the run's own settings
    python sample.py run=latest prompt="The " seed=2     continue a text, with another seed
    python sample.py run=outputs/names/2026-01-31_12-00-00 sampling.temperature=0.5 sampling.top_k=5

More: python train.py --help, --hydra-help (Hydra's own flags).
"""

import sys
from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields, make_dataclass, replace
from typing import Any

from microgpt.commands.failure import report_errors
from microgpt.commands.hydra_app import first_import_of_torch, run_app
from microgpt.config.checks import parse
from microgpt.config.groups import choices
from microgpt.config.help import schema_default
from microgpt.config.registry import CHECKPOINTS, DEVICES
from microgpt.config.schema import REQUIRED, SamplingConfig, key
from microgpt.errors import UserError
from microgpt.runs.finding import RUN, choose_run

# The settings of sampling. Their defaults are null, which means: as in the run. The type checker cannot follow a class
# that is made from the fields of another one.
SamplingOverrides = make_dataclass(
    "SamplingOverrides",
    [(f.name, f.type | None, field(default=None, metadata=f.metadata)) for f in fields(SamplingConfig)],  # type: ignore
)


@dataclass
class SampleConfig:
    run: str = key(REQUIRED, RUN, example="latest", free_text=True)
    prompt: str | None = key(
        None, "the text to continue, in place of sampling.prompts", free_text=True, may_be_empty=True
    )
    checkpoint: str = key("best", "which checkpoint of the run", choices=CHECKPOINTS)
    seed: int | None = key(None, "random seed of the samples; null: the seed of the run", low=0, high=2**31 - 1)
    device: str = key("auto", "where to compute", choices=DEVICES)
    sampling: SamplingOverrides = field(default_factory=SamplingOverrides)  # type: ignore[valid-type]


def main(words: Sequence[str]) -> None:
    run_app(
        lambda cfg: report_errors(lambda: sample(parse(cfg, SampleConfig))),
        "sample",
        SampleConfig,
        words,
        help_text,
        default_of,
    )


def help_text() -> str:
    lines = "\n".join(f"  sampling={name}" for name in choices("sampling"))
    return f"{__doc__}\nChoices, each a file in conf/sampling/ (the defaults are those of the run):\n\n{lines}"


def default_of(name: str, f: Field[Any]) -> str:
    """The default of a setting in words."""
    return "default as in the run" if name.startswith("sampling.") else schema_default(name, f)


def sample(config: SampleConfig) -> None:
    """Print the samples; with `sampling.stream`, in pieces while they are generated. Raises `UserError`."""
    folder = choose_run(config.run, "run", CHECKPOINTS[config.checkpoint])
    with first_import_of_torch():
        from microgpt.model.device import find_device
        from microgpt.model.memory import check_sampling
        from microgpt.runs.opening import open_run
    run = open_run(folder, config.checkpoint, find_device(config.device))
    given = vars(config.sampling)
    if config.prompt is not None:
        given["prompts"] = [config.prompt]
    sampling = run.sampling(given)
    if not sampling.prompts:
        raise UserError('sampling.prompts=[]: needs at least one text; sampling.prompts=[""] samples without a prompt')
    seed = run.config.seed if config.seed is None else config.seed
    check_sampling(replace(run.config, sampling=sampling), run.generator.model.head.weight.device)
    for note in run.generator.notes(sampling.prompts):
        print(note, file=sys.stderr)
    if sampling.stream:
        for piece in run.generator.stream(sampling, seed):
            print(piece, end="", flush=True)
    else:
        print(run.generator.lay_out(run.generator.generate(sampling, seed), sampling))
