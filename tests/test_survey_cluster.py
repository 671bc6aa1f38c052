"""Surveys on a Dask cluster: the same bits, whatever is lost, and every failure in a line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from survey_case import contents, survey

import pyoip
from pyoip.errors import EngineUnavailable, InvalidArgument

# A cluster of its own; the first `count` workers are killed as soon as some work is in the file.
WATCHED = """
import os, signal, sys
from pathlib import Path
from distributed import Client, LocalCluster
from survey_case import survey

def main():
    workers, count = int(sys.argv[2]), int(sys.argv[3])
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
        killed = []
        def tell(at):
            if not killed and at.done > 16:
                with Client(cluster) as client:
                    killed.extend(list(client.run(os.getpid).values())[:count])
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
        found = survey(Path(sys.argv[1]), progress=tell, scheduler=cluster.scheduler_address)
        assert found.complete and len(killed) == count, (found.done, killed)

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What a survey finds on this machine alone."""
    path = tmp_path_factory.mktemp("survey") / "whole.db"
    survey(path)
    return contents(path)


def _python(code: str, *words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(code)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.run(
        [sys.executable, script, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )


@pytest.mark.parametrize(("workers", "killed"), [(2, 1), (1, 1), (2, 2)])
def test_workers_may_be_lost_one_or_all(
    workers: int, killed: int, whole: dict[str, list[Any]], tmp_path: Path
) -> None:
    path = tmp_path / "cluster.db"
    done = _python(WATCHED, path, workers, killed, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert contents(path) == whole


def _command(out: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    small = ("-l", "3", "--starts", "300", "-o", str(out), "--quiet")
    command = [sys.executable, "-m", "pyoip", "survey", "mnist", *small, *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)


def _some_work_in(out: Path, run: subprocess.Popen[str]) -> None:
    while run.poll() is None:
        time.sleep(0.05)
        try:
            if pyoip.load_survey(out).done > 18:
                return
        except pyoip.DataError:  # not a survey yet
            continue
    raise AssertionError(run.communicate()[1])


@pytest.mark.slow  # Dask waits for a minute before it gives a scheduler up
def test_a_lost_scheduler_is_told_in_a_line(tmp_path: Path) -> None:
    out = tmp_path / "x.db"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard", "--port", "0"]
    address = tmp_path / "scheduler.json"
    with ExitStack() as ended:
        quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        scheduler = ended.enter_context(
            subprocess.Popen([*dask, "--scheduler-file", str(address)], **quiet)
        )
        ended.callback(scheduler.kill)
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-dashboard"]
        helper = ended.enter_context(
            subprocess.Popen(
                [*worker, "--scheduler-file", str(address), "--nthreads", "1", "--no-nanny"],
                **quiet,
            )
        )
        ended.callback(helper.kill)
        while not address.exists() or not address.read_text().endswith("}"):
            time.sleep(0.05)
        run = ended.enter_context(
            _command(out, "--scheduler", json.loads(address.read_text())["address"])
        )
        ended.callback(run.kill)
        _some_work_in(out, run)
        scheduler.kill()
        said = [
            line for line in run.communicate(timeout=120)[1].splitlines() if ": error: " in line
        ]
    assert run.returncode == 2
    assert len(said) == 1
    assert "the connection to it is lost" in said[0]
    assert f"pieces are in {out}; the same call goes on" in said[0]


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_of_a_terminal_is_heard_by_who_writes_alone(presses: int, tmp_path: Path) -> None:
    """It goes to the whole group of processes, workers and all."""
    out = tmp_path / "stopped.db"
    with _command(out, "--scheduler", "local:2", start_new_session=True) as run:
        _some_work_in(out, run)
        for _ in range(presses):
            os.killpg(run.pid, signal.SIGINT)
            time.sleep(0.2)
        said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert len(said.splitlines()) == 1, said
    assert "interrupted: " in said
    assert 0 < pyoip.load_survey(out).done < 316


def test_engines_of_a_gpu_need_a_worker_that_has_one(tmp_path: Path) -> None:
    """Who writes needs none: the refusal comes from the cluster, or from its worker."""
    code = """
import sys, pyoip
from distributed import LocalCluster
def main():
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        for scheduler in (cluster.scheduler_address, "local:1"):
            try:
                pyoip.survey("mnist", 1, [0], out=sys.argv[1], starts=5, ascents=1, article=1,
                             engine="onnx:cuda", scheduler=scheduler)
            except pyoip.EngineUnavailable as error:
                print(error)
if __name__ == "__main__":
    main()
"""
    done = _python(code, tmp_path / "x.db", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    untagged, tagged = done.stdout.splitlines()
    assert "takes a GPU, and none of its 1 workers has one to give" in untagged
    assert "'dask worker ADDRESS --resources GPU=1'" in untagged
    assert "engine='onnx:cuda': this ONNX Runtime has no such provider" in tagged
    assert "Traceback" not in done.stderr


def test_workers_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyoip.surveys import cluster

    class Here:
        address = "tcp://10.0.0.1:1"

    monkeypatch.setattr("distributed.get_worker", Here)
    error = cluster.piece("name", "9.9", None, None)  # type: ignore[arg-type]
    assert isinstance(error, EngineUnavailable)
    assert "tcp://10.0.0.1:1: has pyoip " in str(error)
    assert "not 9.9 as here; install the same version on all machines" in str(error)


def test_a_script_without_its_guard_is_told_so(tmp_path: Path) -> None:
    code = (
        "import sys, pyoip\n"
        "pyoip.survey('mnist', 1, [0], out=sys.argv[1], starts=5, ascents=1, scheduler='local:1')\n"
    )
    done = _python(code, tmp_path / "x.db", folder=tmp_path)
    assert done.returncode != 0
    assert "a script must call pyoip.survey under" in done.stderr.splitlines()[-1]


def test_a_missing_scheduler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyoip.surveys.connection.SECONDS_TO_START", 1)
    for scheduler, rule in (
        ("tcp://127.0.0.1:9", "no Dask scheduler answers there within 1 s"),
        ("nowhere", "must be the address of a Dask scheduler, as in tcp://host:8786"),
    ):
        with pytest.raises(InvalidArgument, match=rule):
            survey(tmp_path / "x.db", scheduler=scheduler)
    assert not (tmp_path / "x.db").exists()
