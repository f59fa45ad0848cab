"""The jobs of a sweep, read from their directories."""

import string
from pathlib import Path

import pytest
from helpers import make_job
from hypothesis import given
from hypothesis import strategies as st

from microgpt.errors import UserError
from microgpt.runs.directory import Status
from microgpt.sweeps.jobs import Job, best_first, read_jobs, slug, varied_overrides, varied_settings
from microgpt.sweeps.report import gather


def names_of(jobs: list[Job]) -> list[str]:
    return [job.name for job in jobs]


def test_jobs_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10-a", "2-b", "0-c", "1-d"):
        make_job(tmp_path / name, {})
    (tmp_path / "3-no-job").mkdir()
    assert names_of(read_jobs(tmp_path)) == ["0-c", "1-d", "2-b", "10-a"]


def test_a_directory_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no runs"):
        read_jobs(tmp_path)


def test_the_best_job_is_first_and_jobs_without_a_loss_are_last(tmp_path: Path) -> None:
    make_job(tmp_path / "0-failed", {}, status="failed", error="no")
    make_job(tmp_path / "1-good", {}, val_loss=2.0)
    make_job(tmp_path / "2-best", {}, val_loss=1.0)
    assert names_of(best_first(read_jobs(tmp_path))) == ["2-best", "1-good", "0-failed"]


def test_settings_that_differ_between_jobs_are_found(tmp_path: Path) -> None:
    """Both for the overrides and for the whole configs, where one choice of a group sets many keys."""
    for n, (lr, seed) in enumerate([(0.1, 1), (0.1, 2), (0.3, 1)]):
        make_job(tmp_path / f"{n}-x", {"dataset": "names", "optim.lr": lr, "seed": seed, "train.steps": 60})
    jobs = read_jobs(tmp_path)
    assert varied_overrides(jobs) == ["optim.lr", "seed"]
    assert varied_overrides(jobs[:1]) == []
    assert varied_settings(jobs) == ["optim.lr"]


def test_a_finished_job_has_its_results(tmp_path: Path) -> None:
    make_job(tmp_path / "0-x", {"optim.lr": 0.1}, val_loss=2.25, baselines={"trigram": 2.5})
    (job,) = read_jobs(tmp_path)
    assert (job.status, job.status_text, job.dataset, job.error) == (Status.FINISHED, "finished", "names", "")
    assert (job.step, job.steps, job.val_loss, job.gain_over_trigram) == (60, 60, 2.25, 0.25)
    assert job.tokens_per_second == 2500
    assert job.overrides == {"optim.lr": "0.1"} and job.config["optim.lr"] == 0.1
    assert job.line() == "0-x: finished, validation 2.2500 nats per token, 2 s"


def test_a_failed_job_shows_its_error(tmp_path: Path) -> None:
    make_job(tmp_path / "0-x", {}, status="failed", error="the loss is nan", step=7)
    (job,) = read_jobs(tmp_path)
    assert (job.status_text, job.step, job.val_loss, job.gain_over_trigram) == ("failed", 7, None, None)
    assert job.line() == "0-x: failed the loss is nan"


def test_a_killed_job_is_unfinished_at_the_last_step_that_it_logged(tmp_path: Path) -> None:
    make_job(tmp_path / "0-x", {"dataset": "names"})
    (job,) = read_jobs(tmp_path)
    assert job.step is None
    (tmp_path / "0-x/metrics.csv").write_text("step,train/loss,val/loss\n10,3.0,\n20,2.9,\n")
    (job,) = read_jobs(tmp_path)
    assert (job.status, job.status_text, job.step, job.dataset) == (Status.RUNNING, "unfinished", 20, "names")
    assert job.line() == "0-x: unfinished"
    assert job.metrics == {"train/loss": ([10, 20], [3.0, 2.9])}


def test_a_job_that_never_started_shows_its_overrides(tmp_path: Path) -> None:
    """Its config is read from the copy that Hydra keeps."""
    make_job(tmp_path / "0-x", {"dataset": "names"}, status="failed", error="no such file")
    (tmp_path / "0-x/config.yaml").rename(tmp_path / "0-x/.hydra/config.yaml")
    (job,) = read_jobs(tmp_path)
    assert job.config["dataset.name"] == "names"
    assert job.samples == []


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("", ""),
        ("dataset=names", "-names"),
        ("dataset=names,optim.lr=0.01,model.n_embd=64", "-names-lr0.01-n_embd64"),
        ("dataset=names,optim=adam,seed=3", "-names-adam-seed3"),
        ("sampling.prompts=['a/b c']", "-promptsa_b_c"),
        ("optim.betas=[0.9,0.95],optim.lr=0.1", "-betas0.9_0.95-lr0.1"),
        ("dataset=file,dataset.path='poems.txt'", "-file-poems.txt"),
        ("dataset.path='a/x,1.txt',seed=1", "-a_x_1.txt-seed1"),
        (r"dataset.path='it\'s, here.txt'", "-it_s_here.txt"),
        ("dataset.path=/home/me/songs/old/one.txt", "-me_songs_old_one.txt"),
        ("dataset.path=songs_of_innocence_and_experience_1.txt", "-songs_of_in_rience_1.txt"),
        ("dataset.replace={a:b,c:d}", "-replacea_b_c_d"),
    ],
)
def test_the_name_of_a_job_is_short(overrides: str, name: str) -> None:
    assert slug(overrides) == name


@given(st.text(string.printable, max_size=200))
def test_a_name_is_valid_on_every_file_system(text: str) -> None:
    name = slug(f"dataset={text}")
    assert len(name) <= 48
    assert set(name) <= set(string.ascii_letters + string.digits + "_.-")


BAD = {
    "result.json": b"{",
    "config.yaml": b"[" * 2000,
    ".hydra/overrides.yaml": b"a: b",
    "samples.txt": None,
    "metrics.csv": None,
}


@pytest.mark.parametrize("name", BAD)
def test_a_job_with_an_unreadable_file_says_why_and_has_all_else(name: str, tmp_path: Path) -> None:
    make_job(tmp_path / "0-a", {"dataset": "names"}, val_loss=2.0)
    path, content = tmp_path / "0-a" / name, BAD[name]
    if content is None:
        path.mkdir()  # a directory in place of the file
    else:
        path.write_bytes(content)
    job = Job(tmp_path / "0-a")
    if name == "samples.txt":  # no file: as if there were none
        assert job.samples == [] and job.status_text == "finished"
        return
    assert job.status_text == "unreadable" and name in job.error and "\n" not in job.error
    assert job.line().startswith("0-a: unreadable")
    assert (job.val_loss, job.dataset) == ((None, "names") if name == "result.json" else (2.0, "names"))


def test_one_bad_job_does_not_keep_a_sweep_from_being_gathered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n, name in enumerate(("result.json", "config.yaml", ".hydra/overrides.yaml", "good")):
        make_job(tmp_path / f"{n}-a", {"dataset": "names", "seed": n}, val_loss=2.0)
        (tmp_path / f"{n}-a" / name).write_bytes(BAD.get(name) or b"")
    assert [job.status_text for job in gather(tmp_path)] == ["unreadable"] * 3 + ["finished"]
    assert "1 finished" in capsys.readouterr().out
    for file in ("summary.csv", "summary.md", "report.html", "all_losses.png"):
        assert (tmp_path / file).stat().st_size > 100
    assert "0-a/result.json: damaged" in (tmp_path / "summary.md").read_text()


def test_files_in_different_folders_have_different_names() -> None:
    paths = ["/data/a/verses.txt", "/data/b/verses.txt", "a/x/y.txt", "b/x/y.txt", "q_volume_1.txt", "q_volume_2.txt"]
    assert len({slug(f"dataset=file,dataset.path='{path}'") for path in paths}) == len(paths)


def test_the_settings_of_a_job_are_shown_as_they_were_typed(tmp_path: Path) -> None:
    make_job(tmp_path / "0-x", {"dataset.path": r"'it\'s, here.txt'", "optim.lr": 0.1})
    (job,) = read_jobs(tmp_path)
    assert job.overrides == {"dataset.path": "it's, here.txt", "optim.lr": "0.1"}
