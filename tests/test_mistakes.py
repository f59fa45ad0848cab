"""Wrong command lines of all commands: each ends with status 2 and one line, and leaves the directory as it was.

A new case is a line of MISTAKES: the command line as it is typed in a shell (variables of the environment before it),
and words of the message. Each runs in a process of its own, which may take MEMORY bytes.
"""

import gzip
import json
import os
import re
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fork_server import ForkServer
from settings import QUICK

from microgpt.__main__ import COMMANDS
from microgpt.runs.lock import LOCK

MEMORY = 1 << 30  # bytes beyond those of the imports

# What the commands import of the package, so that not each process has to.
MODULES = [f"microgpt.commands.{name}" for name in COMMANDS]
MODULES += ["microgpt.training.run", "microgpt.training.search", "microgpt.runs.opening", "microgpt.insight.tradeoff"]

FILE = "train.py dataset=file dataset.path="
TORCHRUN = "RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=29511 train.py"

# In the directory are the runs `run` (whole), `shape` (a config of another shape), `cut` (its checkpoints are cut off),
# `gpt run` and `gpt cut` (of gpt.py), the searches `study` and `other study` with damaged databases, and files.
MISTAKES = {
    # -- train.py: words that are no settings
    "train.py ''": "'': names no setting",
    "train.py =3": "'=3': names no setting",
    "train.py names": "did you mean dataset=names?",
    "train.py model.n_embd": "cannot be read as key=value",
    "train.py model.n_embed=64": "did you mean model.n_embd?",
    "train.py +model.n_embed=64": "did you mean model.n_embd?",
    "train.py ++model.n_embed=64": "did you mean model.n_embd?",
    "train.py +foo=bar": "foo: there is no such key",
    "train.py ~model.n_embd": "cannot be removed",
    "train.py ~model": "cannot be removed",
    "train.py ~nope": "'nope' does not exist",
    "train.py dataset@x=names": "type it without @x",
    "train.py foo@bar=baz": "config group 'foo' does not exist",
    # -- numbers that no machine holds, or no run needs
    "train.py train.val_tokens=99999999999999999999": "must be at most 1000000000000",
    "train.py model.n_embd=100000": "the largest value that fits is model.n_embd=",
    "train.py train.batch_size=1000000000": "the largest value that fits is train.batch_size=",
    "train.py model.block_size=10000000": "the largest value that fits is model.block_size=",
    "train.py model.ngrams=5 model.ngram_rows=2000000000": "the largest value that fits is model.ngram_rows=",
    "train.py optim.lr=1e30": "optim.lr=1e+30: must be at most 1000",
    "train.py sampling.temperature=inf": "must be at most 1000",
    "sample.py run=run sampling.max_tokens=100000000000": "the largest value that fits is sampling.max_tokens=",
    "sample.py run=run sampling.n_samples=1000000000": "the largest value that fits is sampling.n_samples=",
    "-m microgpt page": "run: must be given",
    "-m microgpt page run=nowhere": "run=nowhere: not the directory of a run",
    "-m microgpt page run=run bits=99": "bits=99: must be from 4 to 24",
    "-m microgpt page run=run max_mb=0.001": "max_mb",
    "-m microgpt page run=~nobody_here": "there is no user of this name",
    "-m microgpt page run=cut": "cut/best.pt: corrupt",
    "-m microgpt export": "run: must be given",
    "-m microgpt export run=run out=~nobody_here/m": "there is no user of this name",
    "-m microgpt export run=nowhere": "run=nowhere: not the directory of a run",
    # -- flags
    "train.py --nope": "--nope: there is no such flag",
    "train.py -x": "-x: there is no such flag",
    "train.py --train.steps=5": "type train.steps=5",
    "train.py --seed 5": "type seed=5",
    "train.py seed=5 --cfg job device=cpu --nope": "--nope: there is no such flag",
    "train.py --cfg": "--cfg/-c: expected one argument",
    "train.py --cfg nope": "invalid choice: 'nope'",
    "train.py --info nope": "invalid choice: 'nope'",
    "train.py --config-dir nowhere": "--config-dir nowhere: there is no such folder",
    "train.py --config-name nope": "--config-name",
    "train.py --config-path nowhere": "--config-path",
    "train.py --resolve": "--resolve: is only for --cfg",
    "train.py --run --multirun": "only one of",
    "train.py --experimental-rerun x.pickle": "is not supported; resume=",
    # -- values
    "train.py model.n_embd=": "must be a whole number",
    "train.py model.n_embd=null": "may not be null",
    "train.py model.n_embd=3.5": "model.n_embd=3.5: must be a whole number",
    "train.py model.n_embd=wide": "model.n_embd=wide: must be a whole number",
    "train.py model.n_embd=[1]": "must be a whole number",
    "train.py model.n_embd=(1": "cannot be read as key=value; --help",
    "train.py model.n_embd=16,32": "add -m",
    "train.py model.n_embd=30": "try model.n_embd=32",
    "train.py model.n_layer=0": "at least 1",
    f"train.py train.steps={'9' * 5000}": "too many digits",
    f"train.py train.steps={'[' * 2000}": "train.steps=",
    "train.py optim.lr=fast": "must be a number",
    "train.py optim.betas=[0.9]": "optim.betas=[0.9,0.95]",
    "train.py optim.betas=3": "a value of this kind: optim.betas='[0.9,0.95]'",
    "train.py model.rotary=perhaps": "must be true or false",
    "train.py train.grad_accum=9 train.batch_size=8": "try train.grad_accum=8",
    "train.py seed=-1": "seed=-1: must be at least 0",
    "train.py device=cuda:99": "must be one of",
    "train.py device=gpu": "did you mean device=cuda?",
    "train.py plot=maybe": "must be one of true, false, live",
    "train.py plot=live hydra.run.dir=new": "plot=live",
    # -- groups
    "train.py dataset=nmes": "did you mean dataset=names?",
    "train.py datset=names": "did you mean dataset?",
    "train.py model=null": "the name of a choice",
    "train.py model=3": "the name of a choice",
    "train.py model=[]": "the name of a choice",
    "train.py model=tiny,small": "add -m",
    "train.py 'dataset=glob(*)'": "stands for several values; for a run with each of them, add -m",
    "train.py experiment=nope": "there is no such experiment",
    "train.py hydra=nope": "Hydra has no such key",
    "train.py hydra.job.nope=1": "Hydra has no such key",
    "train.py hydra.mode=nope": "hydra.mode=nope",
    "train.py hydra/job_logging=nope": "there is no such hydra/job_logging",
    # -- texts, lists and dictionaries
    "train.py 'dataset.replace={a:null}'": "dataset.replace={a:null}: does not fit; a value of this kind",
    "train.py 'dataset.replace={a:[b]}'": "which is no text",
    "train.py 'dataset.replace={a:{b:c}}'": "which is no text",
    "train.py 'dataset.replace={\"\":x}'": "cannot be replaced",
    "train.py dataset.replace=3": "a value of this kind",
    "train.py dataset.replace={a": "a value of this kind",
    "train.py sampling.prompts=[]": "needs at least one text",
    "train.py sampling.prompts=[[a]]": "which is no text",
    "train.py sampling.prompts={a:b}": "sampling.prompts={a:'b'}: does not fit; a value of this kind",
    "train.py 'sampling.prompts=[\"É\"]'": "'É'",
    # -- directories
    "train.py datasets_dir=": "is empty",
    "train.py dataset=names datasets_dir=words.txt": "datasets_dir=words.txt: words.txt: is a file",
    "train.py dataset=names datasets_dir=/proc/nowhere": "choose another folder with datasets_dir=",
    "train.py dataset=names datasets_dir=~nobody-here/x": "there is no user of this name",
    "train.py hydra.run.dir=": "is empty",
    "train.py hydra.run.dir=words.txt": "words.txt: is a file, and no directory",
    "train.py hydra.run.dir=/proc/x": "choose another directory with hydra.run.dir=",
    "train.py 'hydra.run.dir=${nope}'": "'nope' not found",
    "train.py hydra.run.dir=new/of/two model.n_embd=30": "try model.n_embd=32",
    "train.py hydra.run.dir=run model.n_embd=32": "run: holds another run, with model.n_embd=16",
    "train.py dataset.name=": "dataset.name=: names the folder of the runs",
    "train.py dataset.name=../x": "dataset.name=../x: names the folder of the runs",
    # -- resuming
    "train.py resume=": "is empty",
    "train.py resume=nowhere": "try resume=latest",
    "train.py resume=words.txt": "not the directory of a run",
    "train.py resume=~nobody-here/x": "there is no user of this name",
    "train.py resume=shape": "shape/config.yaml: damaged",
    "train.py resume=cut train.steps=9": "no checkpoint is whole",
    "train.py resume=run model.n_embd=32": "model.n_embd=16, which cannot change",
    "train.py resume=run model=tiny": "a resumed run keeps its own model",
    "train.py resume=run dataset=names": "a resumed run keeps its own dataset",
    "train.py resume=run experiment=speedrun": "a resumed run keeps its own experiment",
    "train.py resume=run nope=3": "nope: there is no such key",
    "train.py 'resume=a ${b}/run' seed=4": "seed=1337, which cannot change",
    # -- sweeps
    "train.py -m dataset=nmes,colors": "did you mean dataset=names?",
    "train.py -m 'dataset=glob(x*)'": "the sweep has no job",
    "train.py -m 'model.n_embd=range(a,b)'": "cannot be read as key=value",
    "train.py -m resume=run": "leave out -m",
    "train.py -m hydra/launcher=nope": "there is no such hydra/launcher",
    "train.py -m hydra.sweep.dir=run": "is the directory of a run",
    "train.py -m hydra.sweep.dir=/proc/x": "choose another directory with hydra.sweep.dir=",
    "train.py -m hydra.sweep.dir=words.txt": "words.txt: is a file, and no directory",
    # -- downloads, and corpora without a file
    "train.py dataset=names dataset.url=nothing": "malformed or not one of http or https",
    "train.py dataset=names dataset.url=ftp://x/y": "malformed or not one of http or https",
    "train.py dataset=names dataset.url=null": "dataset.file=names.txt: there is no such file in datasets",
    "train.py dataset=names dataset.file=null": "neither a file nor an address",
    # -- files
    "train.py dataset.path=words.txt": "add dataset=file",
    "train.py dataset.path=words.txt dataset.reader=csv": "add dataset=file",
    "train.py dataset=colors dataset.path=words.txt": "type dataset=file dataset.path=words.txt",
    "-m microgpt tune dataset.path=words.txt": "add dataset=file",
    "train.py dataset=file": "add dataset.path=my.txt",
    f"{FILE}": "is empty",
    f"{FILE}[]": "names no file",
    f"{FILE}wrds.txt": "did you mean dataset.path=words.txt?",
    f"{FILE}empty": "is a folder without files",
    f"{FILE}'a**b'": "a**b: ",
    f"{FILE}/dev/null": "is neither a file nor a folder",
    f"{FILE}/proc/self/mem": "dataset.path=/proc/self/mem: ",
    f"{FILE}random.bin": "give a text file",
    f"{FILE}random.gz": "damaged or cut off",
    f"{FILE}bomb.gz": "dataset.path=bomb.gz: unpacks to more than",
    f"{FILE}bomb.zip dataset.reader=zip": "dataset.path=bomb.zip: unpacks to more than",
    f"{FILE}words.txt dataset.reader=zip": "dataset.reader=text reads plain text",
    f"{FILE}table.csv dataset.reader=csv": "add dataset.column=id",
    f"{FILE}table.csv dataset.reader=csv dataset.column=x": "has no such column",
    f"{FILE}words.txt dataset.reader=jsonl": "line 1 is no JSON",
    f"{FILE}keys.jsonl dataset.reader=jsonl": "which key holds the text must be given; keys.jsonl has: text",
    f"{FILE}keys.jsonl dataset.reader=jsonl dataset.column=x": "no such key; it has: text (the texts in line 1); add",
    f"{FILE}texts.jsonl dataset.reader=jsonl dataset.column=x": "is a text without keys; leave it out",
    f"{FILE}deep.jsonl dataset.reader=jsonl": "line 1 is no JSON",
    f"{FILE}half.jsonl dataset.reader=jsonl": "half of a character",
    f"{FILE}words.txt dataset.encoding=utf9": "did you mean utf-8?",
    f"{FILE}words.txt dataset.encoding=idna": "no such encoding of text",
    f"{FILE}words.txt dataset.document=xyz": "does not hold this separator",
    f"{FILE}words.txt dataset.min_count=99": "2 are needed",
    f"{FILE}words.txt dataset.mode=stream": "model.block_size=",
    # -- torchrun
    f"{TORCHRUN} model.n_embd=30": "try model.n_embd=32",
    f"{TORCHRUN} -m dataset=colors": "leave out -m",
    f"{TORCHRUN} --nope": "there is no such flag",
    "RANK=0 train.py": "WORLD_SIZE=: is not what torchrun sets",
    "RANK=x WORLD_SIZE=2 train.py": "RANK=x: is not what torchrun sets",
    # -- sample.py
    "sample.py": "add run=latest",
    "sample.py run=": "is empty",
    "sample.py run=nowhere": "try run=latest",
    "sample.py run=/nowhere/latest": "there is no run in",
    "sample.py run=cut": "corrupt, or not a checkpoint",
    "sample.py 'run=gpt run'": "python -m microgpt convert",
    "sample.py run=run --nope": "there is no such flag",
    "sample.py -m run=run,run": "-m: sample takes one run at a time; leave it out",
    "sample.py run=run model.n_embd=3": "model.n_embd: is a setting of train,",
    "sample.py run=run 'dataset.replace={a:null}'": "dataset.replace: is a setting of train,",
    "sample.py run=run sampling.nsamples=3": "did you mean sampling.n_samples?",
    "sample.py run=run sampling.n_samples=0": "at least 1",
    "sample.py run=run sampling.top_p=2": "from 0 to 1",
    "sample.py run=run sampling=nope": "there is no such sampling",
    "sample.py run=run sampling.prompts=[]": "needs at least one text",
    "sample.py run=run prompt=9": "'9'",
    "sample.py run=run checkpoint=worst": "must be one of best, last",
    "sample.py run=run seed=-1": "seed=-1: must be at least 0",
    # -- microgpt
    "-m microgpt nope": "there is no such command",
    "-m microgpt ''": "there is no such command",
    "-m microgpt --nope": "there is no such command",
    "-m microgpt train --nope": "there is no such flag",
    "-m microgpt sample run=nowhere": "try run=latest",
    "-m microgpt corpora --nope": "cannot be read as key=value",
    "-m microgpt corpora ''": "names no setting",
    "-m microgpt corpora nope=3": "nope: there is no such key",
    "-m microgpt corpora datasets_dir=corpora": "corpora/names.txt does not have the checksum",
    "-m microgpt corpora datasets_dir=~nobody-here": "there is no user of this name",
    "-m microgpt explain": "add run=latest",
    "-m microgpt explain run=run": "add text=abc",
    "-m microgpt explain run=run text=9": "'9'",
    "-m microgpt explain run=run text=red top=x": "top=x: must be a whole number",
    "-m microgpt explain run=run text=red top=0": "must be at least 1",
    "-m microgpt explain run=run text=red out=/proc/x": "name another file with out=",
    "-m microgpt explain run=run text=red model.n_embd=3": "model.n_embd: is a setting of train,",
    "-m microgpt explain run=cut text=red": "corrupt, or not a checkpoint",
    "-m microgpt compare": "must be two finished runs",
    "-m microgpt compare runs=run,nowhere": "runs=nowhere: not the directory of a run",
    "-m microgpt compare runs=run,cut": "corrupt, or not a checkpoint",
    "-m microgpt compare text=": 'add text="Bulbaton"',
    "-m microgpt compare text=a out=x": "leave out out= or text=",
    "-m microgpt guess": "add text=Bulbaton",
    "-m microgpt guess text=a runs=run": "must be two finished runs",
    "-m microgpt guess text=a 'runs=~nobody-here,run'": "there is no user of this name",
    "-m microgpt tradeoff run=nowhere": "try run=latest",
    "-m microgpt tradeoff run=run n=1": "n=1: must be at least 20",
    "-m microgpt tradeoff run=run out=x.bmp": "a .png, .svg or .pdf",
    "-m microgpt tune --nope": "--nope: there is no such key",
    "-m microgpt tune n_trials=0": "n_trials=0: must be at least 1",
    "-m microgpt tune tune=nope": "there is no such tune",
    "-m microgpt tune save_as=a/b": "save_as=a/b: must be letters",
    "-m microgpt tune folder=words.txt": "folder=words.txt: ",
    "-m microgpt tune folder=study": "study/study.db: not the database of a search, or damaged",
    "-m microgpt tune 'folder=other study'": "other study/study.db: not the database of a search, or damaged",
    "-m microgpt tune 'space={optim.lr:{low:3,high:1}}'": "low not above high",
    "-m microgpt tune 'space={optim.lr:3}'": "must have choices, or low and high",
    "-m microgpt tune 'space={optim.nope:{low:0,high:1}}'": "did you mean optim.name?",
    "-m microgpt tune model.n_embd=30": "try model.n_embd=32",
    "-m microgpt summarize": "folder: must be given",
    "-m microgpt summarize folder=nowhere": "holds no runs",
    "-m microgpt summarize folder=words.txt": "holds no runs",
    "-m microgpt convert run=run": "it holds no ckpt.json",
    "-m microgpt convert run=shape": "is not a checkpoint of gpt.py",
    "-m microgpt completion shell=nope": "must be one of bash, zsh, fish",
    "-m microgpt completion shell": "use shell=, line=",
    # -- gpt.py
    "microgpt/gpt.py --nope": "unrecognized arguments: --nope",
    "microgpt/gpt.py --steps abc": "invalid int value: 'abc'",
    "microgpt/gpt.py --steps 0": "at least 1",
    "microgpt/gpt.py --lr nan": "must be a number of at least 0.0",
    "microgpt/gpt.py --data words.txt --n_embd 5 --n_head 2": "does not divide --n_embd 5",
    "microgpt/gpt.py --data nowhere": "--data nowhere",
    "microgpt/gpt.py --data random.bin": "--data random.bin",
    "microgpt/gpt.py --data words.txt --prompt é": "holds no 'é'",
    "microgpt/gpt.py --resume nowhere": "no checkpoint of a run",
    "microgpt/gpt.py --resume shape": "no checkpoint of a run",
    "microgpt/gpt.py --resume 'gpt run' --seed 3": "a resumed run keeps its own seed",
    "microgpt/gpt.py --resume 'gpt cut'": "the weights of the checkpoint do not fit its settings",
}


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer(*MODULES)
    yield server
    server.close()


@pytest.fixture(scope="module")
def folder(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with runs, searches and files, whole and damaged."""
    root = tmp_path_factory.mktemp("mistakes")
    (root / "words.txt").write_text("anna\nbob\notto\n")
    for command in (f"train.py hydra.run.dir=run {' '.join(QUICK)}", "microgpt/gpt.py --data words.txt --steps 1"):
        done = server.run(root, *command.split())
        assert done.returncode == 0, done.stderr
    (run_of_gpt,) = (root / "outputs/gpt").iterdir()
    run_of_gpt.rename(root / "gpt run")
    shutil.rmtree(root / "outputs")
    for name in ("shape", "cut", "a ${b}/run"):
        shutil.copytree(root / "run", root / name)
    (root / "shape/config.yaml").write_text("[1, 2")
    (root / "shape/ckpt.json").write_text('{"settings": 3}')
    for checkpoint in (root / "cut").glob("*.pt"):
        checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    run = json.loads((root / "gpt run/ckpt.json").read_text())
    run["weights"]["head"][0][0] = "a"
    (root / "gpt cut").mkdir()
    (root / "gpt cut/ckpt.json").write_text(json.dumps(run))
    (root / "empty").mkdir()
    write_files(root)
    return root


def write_files(root: Path) -> None:
    noise = bytes(i * i * 7 % 251 for i in range(5000))
    for name in ("study", "other study", "corpora"):
        (root / name).mkdir()
    (root / "study/study.db").write_bytes(noise)
    (root / "other study/study.db").write_bytes(b"SQLite format 3\0" + noise)
    (root / "corpora/names.txt").write_text("anna\n")
    (root / "random.bin").write_bytes(noise)
    (root / "random.gz").write_bytes(b"\x1f\x8b\x08" + noise)
    (root / "table.csv").write_text("id;the title\n1;a\n2;b\n")
    (root / "keys.jsonl").write_text('{"text": "x"}\n')
    (root / "texts.jsonl").write_text('"x"\n')
    (root / "deep.jsonl").write_text("[" * 100_000)
    (root / "half.jsonl").write_text('"\\ud800x"\n"b"\n"c"\n')
    line = b"a line that is repeated\n" * 50_000
    with gzip.open(root / "bomb.gz", "wb") as file, zipfile.ZipFile(root / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as z:
        for i in range(20):
            file.write(line)
            z.writestr(f"{i}.txt", line)


def files_of(root: Path) -> dict[str, bytes | None]:
    """All files and folders below `root`, with the content of the files; a lock holds the last process that had it."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
        if path.name != LOCK
    }


@pytest.mark.parametrize("line", MISTAKES, ids=lambda line: line[:80])
def test_a_mistake_is_one_line_and_changes_nothing(
    line: str, server: ForkServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    words = shlex.split(line)
    while re.match(r"[A-Z_]+=", words[0]):
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    before = files_of(folder)
    done = server.run(folder, *words, memory=MEMORY)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert MISTAKES[line] in done.stderr
    assert not re.search(r"Traceback|None|\bNoneType\b|\+\+|%%", done.stderr.replace("++model", ""))
    assert files_of(folder) == before


def test_the_memory_of_a_mistake_is_limited(server: ForkServer, folder: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux says how much memory a process uses")
    (folder / "hungry.py").write_text(f"bytearray({2 * MEMORY})")
    done = server.run(folder, str(folder / "hungry.py"), memory=MEMORY)
    (folder / "hungry.py").unlink()
    assert "MemoryError" in done.stderr


def test_every_command_has_mistakes() -> None:
    for name in COMMANDS:
        assert any(f"-m microgpt {name}" in line for line in MISTAKES), name
    assert len(MISTAKES) >= 120 and os.environ.get("HYDRA_FULL_ERROR", "0") == "0"
