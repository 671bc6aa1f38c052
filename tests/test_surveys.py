"""Surveys: what is computed, what the file survives, and what is read from it."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from survey_case import FEW, LAYER, MIXES, contents, small_pieces, survey

import pyoip
from pyoip.errors import DataError, Interrupted, InvalidArgument
from pyoip.fluctuations import Fluctuations
from pyoip.surveys import plan as plan_module
from pyoip.surveys import store, work
from pyoip.surveys.cluster import Queue
from pyoip.surveys.likeness import by_chance, correlation
from pyoip.surveys.plan import Plan, describe, shares
from pyoip.surveys.run import IMAGES_PER_ASCENT, Meter
from pyoip.surveys.store import Store, reading


@pytest.fixture(scope="module", autouse=True)
def pieces() -> Iterator[None]:
    """A survey of eight maps and six mixes is several pieces, not three."""
    with pytest.MonkeyPatch.context() as patch:
        small_pieces(patch)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey that nothing has interrupted."""
    path = tmp_path_factory.mktemp("survey") / "whole.db"
    survey(path)
    return path


@pytest.fixture(scope="module")
def found(whole: Path) -> pyoip.Survey:
    return pyoip.load_survey(whole)


# --- what is computed --------------------------------------------------------------------------


def _pool(found: pyoip.Survey, mix: int) -> np.ndarray:
    return pyoip.start_images(found.plan.starts, fluctuations=found.plan.mixes[mix])


def test_alive_is_the_share_of_start_images_that_activate_a_map(found: pyoip.Survey) -> None:
    for mix in range(len(MIXES)):
        scores = pyoip.score("mnist", _pool(found, mix), LAYER)
        np.testing.assert_allclose(found.alive[mix], (scores > 0).mean(axis=0))
    assert 0 < found.alive.mean() < 1


def test_ascents_begin_at_the_best_start_images(found: pyoip.Survey) -> None:
    """The one that led to the OIP is among the highest; asleep, by preactivation; dead, any."""
    for mix in (0, 4):
        for objective, asleep in (("activation", False), ("preactivation", True)):
            scores = pyoip.score("mnist", _pool(found, mix), LAYER, objective=objective)
            best = np.argsort(-scores, axis=0, kind="stable")[: found.plan.ascents]
            columns = np.flatnonzero(((found.alive[mix] == 0) == asleep) & ~(found.bounds <= 0))
            for column in columns:
                assert found.starts[mix, column] in best[:, column]


def test_the_best_of_many_scores_the_earlier_of_equal_ones_first(found: pyoip.Survey) -> None:
    worker = work.Worker(pyoip.load("mnist"), replace(found.plan, ascents=3))
    scores = np.array([[[0, 5], [2, 5], [0, 5], [2, 5], [1, 5]]], np.float32)
    best, values = worker._best(np.arange(10, 15), scores)
    assert best.tolist() == [[[11, 13, 14], [10, 11, 12]]]
    assert values.tolist() == [[[2, 2, 1], [5, 5, 5]]]
    few, _ = worker._best(np.arange(2), scores[:, :2])
    assert few.tolist() == [[[1, 0, -1], [0, 1, -1]]]


@pytest.mark.parametrize("count", [1, 3, 31, 32, 63, 64, 1000])
def test_the_best_are_those_of_all_sorted(found: pyoip.Survey, count: int) -> None:
    """Also where all the best stand together, many are equal, or sections do not come out even."""
    worker = work.Worker(pyoip.load("mnist"), replace(found.plan, ascents=3))
    rng = np.random.default_rng(count)
    scores = rng.integers(0, 50, (2, count, 4)).astype(np.float32)
    scores[0, :, 1], scores[1, -5:, 2] = np.arange(count), 99
    best, values = worker._best(np.arange(count), scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :3].swapaxes(1, 2)
    assert np.array_equal(best[:, :, : order.shape[2]], order)
    ranked = np.take_along_axis(scores.swapaxes(1, 2), order, axis=2)
    assert np.array_equal(values[:, :, : order.shape[2]], ranked)


def test_pieces_that_activate_a_map_come_before_those_that_do_not() -> None:
    """Even where a silent piece has the higher numbers: they are preactivations."""

    def piece(alive: int, numbers: list[int], scores: list[float]) -> work.Scored:
        arrays = np.array([numbers]), np.array([scores], np.float32)
        return work.Scored(np.array([alive]), b"", *arrays)

    silent, awake = piece(0, [1, 2], [0.9, 0.8]), piece(1, [5, 6], [0.3, 0.0])
    assert work.merged([silent, awake]).tolist() == [[5, 6]]
    short = piece(1, [7, -1], [0.5, -np.inf])
    assert work.merged([silent, short]).tolist() == [[7, 1]]


def test_maps_in_any_order_give_the_same(found: pyoip.Survey, tmp_path: Path) -> None:
    odd = pyoip.survey(
        "mnist", "conv3:26,20,24", out=tmp_path / "odd.db", **{**FEW, "mixes": MIXES[2]}
    )
    columns = [found.maps.index(number) for number in odd.maps]
    assert odd.maps == (26, 20, 24)
    np.testing.assert_array_equal(odd.article(), found.article()[:, columns])
    np.testing.assert_array_equal(odd.activations[0], found.activations[2, columns])
    np.testing.assert_array_equal(odd.alive[0], found.alive[2, columns])


def test_images_reach_what_is_said_of_them(found: pyoip.Survey) -> None:
    images = np.stack([found.image(number, 2) for number in found.maps])
    values = np.diagonal(pyoip.score("mnist", images, LAYER))
    np.testing.assert_allclose(found.activations[2], values, rtol=1e-5, atol=1e-6)
    mixes, own = found.images(found.maps[3])
    assert mixes.tolist() == list(range(len(MIXES)))
    np.testing.assert_array_equal(own[2], images[3])


def test_a_map_and_a_mix_alone_give_the_same_bits(found: pyoip.Survey, tmp_path: Path) -> None:
    alone = pyoip.survey(
        "mnist", "conv3:22", out=tmp_path / "one.db", **{**FEW, "mixes": MIXES[3], "article": 0}
    )
    column = found.maps.index(22)
    np.testing.assert_array_equal(alone.image(22, 0), found.image(22, 3))
    assert alone.alive[0, 0] == found.alive[3, column]
    assert alone.activations[0, 0] == found.activations[3, column]


@pytest.mark.parametrize(
    ("limits", "cuts"),
    [
        ({"SCORED_AT_ONCE": 7, "CLIMBED_AT_ONCE": 3}, 5),  # one mix, seven start images; three maps
        ({"SCORED_AT_ONCE": 28, "SCORED_LEAST": 7, "MIXES_AT_ONCE": 4, "CLIMBED_AT_ONCE": 16}, 4),
        ({"MIXES_AT_ONCE": 16, "CLIMBED_AT_ONCE": 128}, 1),  # all that there are
    ],
)
def test_pieces_of_any_size_give_the_same(
    limits: dict[str, int], cuts: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start images are ranked over all pieces, those that wake a map before those that do not."""
    for name, most in limits.items():
        monkeypatch.setattr(plan_module, name, most)
    survey(tmp_path / "pieces.db")
    pieces, at_once = contents(tmp_path / "pieces.db"), contents(whole)
    for table in ("plan", "maps", "oips", "article"):
        assert pieces[table] == at_once[table]
    assert len(pieces["scores"]) == cuts * len(at_once["scores"])


def test_images_of_a_block_are_scored_as_all_at_once(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven start images of both mixes at a time: no score in the place of another."""
    monkeypatch.setattr(work, "DRAWN_BYTES", 7 * 2 * 4 * 28 * 28)
    survey(tmp_path / "blocks.db")
    assert contents(tmp_path / "blocks.db") == contents(whole)


def test_mixes_of_other_scales_are_not_scored_together(
    found: pyoip.Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups end where the scales change, are much of a size, and no larger than their images."""
    plan = replace(found.plan, mixes=(*MIXES, *pyoip.grid(scales=(2, 9), smoothings=(0,))))
    monkeypatch.setattr(plan_module, "MIXES_AT_ONCE", 4)
    assert list(plan.groups()) == [range(3), range(3, 6), range(6, 9)]
    monkeypatch.setattr(plan_module, "SCORED_AT_ONCE", 2 * plan_module.SCORED_LEAST)
    assert [len(group) for group in plan.groups()] == [2, 2, 2, 1, 2]


def test_threads_that_share_a_worker_draw_apart(found: pyoip.Survey) -> None:
    """As in a Dask worker of several threads: none scores the images of another."""
    worker = work.Worker(pyoip.load("mnist"), replace(found.plan, starts=400), threads=1)
    tasks = [task for group in worker.plan.groups() for task in worker.plan.scorings(group)]
    alone = [[part.scores.tobytes() for part in worker.score(task)] for task in tasks]
    with ThreadPoolExecutor(len(tasks)) as threads:
        for _ in range(5):
            together = threads.map(worker.score, tasks)
            assert [[part.scores.tobytes() for part in found] for found in together] == alone


def test_threads_change_nothing(whole: Path, tmp_path: Path) -> None:
    survey(tmp_path / "one.db", threads=1)
    assert contents(tmp_path / "one.db") == contents(whole)


def test_verdicts_are_those_of_an_ascent(found: pyoip.Survey) -> None:
    dead = found.maps.index(25)
    assert set(found.verdicts[:, dead]) == {"dead"}
    assert found.bounds[dead] <= 0
    assert (found.woke[:, dead] == -1).all()
    assert found.best[dead].verdict == "dead"
    alive = np.delete(found.activations, dead, axis=1)
    real = np.delete(found.real, dead)
    weak = np.delete(found.verdicts, dead, axis=1) == "weak"
    np.testing.assert_array_equal(weak, (alive > 0) & (alive <= real))
    assert (found.alive[found.woke > 0] < 1).all()


def test_the_articles_way_takes_one_start_image_for_all_and_wakes_nothing(
    found: pyoip.Survey,
) -> None:
    assert found.article().shape == (2, len(found.maps))
    image = pyoip.start_images(1, fluctuations=work.ARTICLE)
    silent = pyoip.score("mnist", image, LAYER)[0] <= 0
    assert silent.any()
    np.testing.assert_array_equal(found.article()[0] <= 0, silent)
    result = pyoip.ascend(
        "mnist", LAYER, start=image, method="article", step_size=0.1, steps=24, momentum=0.0
    )
    np.testing.assert_allclose(result.activations, found.article()[0], rtol=1e-5)
    assert found.article_found().tolist() == (found.article() > 0).sum(axis=1).tolist()


def test_any_engine_can_be_asked(tmp_path: Path, found: pyoip.Survey) -> None:
    by_onnx = survey(tmp_path / "onnx.db", engine="onnx", mixes=MIXES[:1], article=0)
    np.testing.assert_allclose(by_onnx.alive[0], found.alive[0])
    np.testing.assert_allclose(by_onnx.activations[0], found.activations[0], rtol=2e-2, atol=1e-4)


# --- mixes -------------------------------------------------------------------------------------


def test_the_default_grid_has_sixty_mixes() -> None:
    mixes = pyoip.grid()
    assert len(set(mixes)) == 60
    assert {mix.smoothing for mix in mixes} == {0, 1, 2, 4}


def test_weights_of_one_ratio_are_taken_once() -> None:
    mixes = pyoip.grid(scales=(1, 4), levels=(0, 0.5, 1), smoothings=(0,))
    ratios = [tuple(w / max(mix.weights) for w in mix.weights) for mix in mixes]
    assert sorted(ratios) == [(0, 1), (0.5, 1), (1, 0), (1, 0.5), (1, 1)]


def test_a_sobol_sample_fills_the_weights_evenly() -> None:
    mixes = pyoip.sobol(63)
    weights = np.array([mix.weights for mix in mixes])
    assert weights.shape == (63, 4)
    assert ((weights > 0) & (weights < 1)).all()
    np.testing.assert_allclose(weights.mean(axis=0), 0.5, atol=0.02)
    smoothings = [mix.smoothing for mix in mixes]
    assert all(15 <= smoothings.count(passes) <= 16 for passes in (0, 1, 2, 4))
    assert pyoip.sobol(63) == mixes
    assert pyoip.sobol(5) == mixes[:5]


def test_mixes_in_words_and_shares() -> None:
    assert describe(Fluctuations((1, 2), (1, 0.25), 3)) == "1 px + 0.25 × 2 px, smoothed 3 times"


def test_shares_are_those_of_the_variance() -> None:
    """Interpolation and blur take from a scale what its weight does not tell: by experiment."""
    shape, scales = (1, 20, 24), (1.0, 2.0, 4.0)
    for smoothing in (0, 3):
        for weights in ((1.0, 1.0, 1.0), (0.5, 0.0, 2.0)):
            mix = Fluctuations(scales, weights, smoothing)
            found = shares(mix, (1.0, 2.0, 4.0, 8.0), shape)
            assert sum(found) == pytest.approx(1.0)
            images = pyoip.start_images(3000, shape, mix).reshape(3000, -1)
            for i, share in enumerate(found[:3]):
                only = tuple(float(k == i) for k in range(3))
                alone = pyoip.start_images(3000, shape, Fluctuations(scales, only, smoothing))
                covered = np.mean(images * alone.reshape(3000, -1), axis=1)  # deviations are 1
                assert np.mean(covered) ** 2 == pytest.approx(share, abs=0.02)
            assert found[3] == 0.0


def test_a_plan_survives_its_texts(found: pyoip.Survey) -> None:
    assert Plan.from_texts(found.plan.as_texts()) == found.plan


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"starts": 0}, "starts=0: must be an integer in 1"),
        ({"ascents": 31}, "ascents=31: must be at most starts=30"),
        ({"article": -1}, "article=-1: must be an integer in 0"),
        ({"mixes": ()}, r"mixes=\(\): must be one or more pyoip.Fluctuations"),
        ({"mixes": "1,2"}, "mixes='1,2': must be one or more"),
        ({"mixes": (MIXES[0], MIXES[0])}, "mixes: 4 px twice; each must be there once"),
        ({"scheduler": 3}, "scheduler=3: must be an address"),
        ({"scheduler": "local:0"}, "scheduler='local:0': N of local:N must be in 1 … 1024"),
        ({"engine": "core"}, "engine='core': must be one of"),
    ],
)
def test_bad_arguments_are_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=message):
        survey(tmp_path / "x.db", **changed)
    assert not (tmp_path / "x.db").exists()


def test_small_images_get_the_scales_that_fit_them() -> None:
    assert plan_module.default_scales((1, 8, 8)) == (1, 2, 4)
    assert len(plan_module.as_mixes(None, (1, 8, 8))) == 28
    with pytest.raises(InvalidArgument, match="one that has a weight must be in 1 … "):
        plan_module.as_mixes(Fluctuations((9,), (1,)), (1, 8, 8))


def test_unknown_maps_and_mixes_are_refused(found: pyoip.Survey) -> None:
    for ask in (found.clusters, found.images, found.map_as_dict, found.alikeness):
        with pytest.raises(
            InvalidArgument, match="map 3: must be a map of this survey, which has 20-27"
        ):
            ask(3)
    with pytest.raises(InvalidArgument, match="mix=6: must be an integer in 0 … 5"):
        found.image(22, 6)


def test_bad_grids_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="levels"):
        pyoip.grid(levels=(0,))
    with pytest.raises(InvalidArgument, match="smoothings"):
        pyoip.grid(smoothings=())
    with pytest.raises(InvalidArgument, match="count=0"):
        pyoip.sobol(0)
    for given in ({"scales": 5}, {"levels": "ab"}, {"levels": [None]}):
        with pytest.raises(InvalidArgument, match="must be a sequence of one number or more"):
            pyoip.grid(**given)
    with pytest.raises(InvalidArgument, match=r"so few that there are 65536 mixes, not 387420489"):
        pyoip.grid(scales=range(1, 10), levels=range(9), smoothings=(0,))
    with pytest.raises(InvalidArgument, match="smoothings"):
        pyoip.sobol(4, smoothings=())
    assert len(pyoip.grid(levels=iter((0, 1)))) == 60


# --- stopping and going on -----------------------------------------------------------------------


def test_ctrl_c_keeps_what_is_finished_and_the_same_call_goes_on(
    whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "stopped.db"

    def stop(at: Any) -> None:
        if at.done > 40:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"interrupted: \d+ of 11 pieces are in") as stopped:
        _unhurried(path, stop)
    partial = stopped.value.result
    assert 0 < partial.done < partial.total
    assert not partial.complete
    before = contents(path)["oips"]
    assert survey(path).complete
    assert contents(path) == contents(whole)
    assert contents(path)["oips"][: len(before)] == before


def _unhurried(path: Path, progress: Any) -> pyoip.Survey:
    """A survey that tells of every piece."""
    clock = iter(range(10**9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyoip.surveys.run.time.perf_counter", lambda: float(next(clock)))
        return survey(path, progress=progress)


def test_nothing_finished_is_repeated(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work.Worker, "perform", lambda *_: pytest.fail("computed again"))
    before = contents(whole)
    assert survey(whole).complete
    assert contents(whole) == before


RUN = """
import sys, pyoip
from pyoip.surveys import plan
plan.CLIMBED_AT_ONCE = 2  # more pieces to be killed in
mixes = pyoip.grid(scales=(1, 4), smoothings=(0, 1))
pyoip.survey("mnist", "conv3:20-27", out=sys.argv[1], mixes=mixes, starts=30, ascents=2, article=2,
             steps=24, progress=lambda at: print(at.done, flush=True))
"""


def _begun(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _killed(path: Path, seconds: float) -> bool:
    """Run a survey and kill it after a while; whether it had ended before."""
    with _begun(path) as run:
        try:
            run.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            run.kill()
            return False
    return True


def _kill_repeatedly(folder: Path, kills: int) -> None:
    """Kill at random moments, of several surveys one after the other, until there were enough."""
    chance = random.Random(1)
    began = time.perf_counter()
    assert _killed(folder / "clock.db", 60.0)
    lasts = time.perf_counter() - began
    whole = contents(folder / "clock.db")
    number, killed = 0, 0
    while killed < kills:
        path, before = folder / f"{number}.db", list[Any]()
        number += 1
        while not _killed(path, chance.uniform(0.3 * lasts, 0.9 * lasts)):
            killed += 1
            now = _stored(path)
            if now is not None:
                assert set(now) >= set(before)  # nothing finished is lost, nor its bits changed
                before = now
        assert contents(path) == whole
        found = pyoip.load_survey(path)
        assert found.ascents == 2 * 8 + 6 * 8 * 2  # over all that were killed: nothing twice
        assert found.images_scored == 6 * 30


def _stored(path: Path) -> list[Any] | None:
    """The OIPs in a file, or None where it was killed before there were tables."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as database:
        begun = database.execute("PRAGMA user_version").fetchone()[0]
    return contents(path)["oips"] if begun else None


def test_kill_9_loses_nothing_finished_and_repeats_nothing(tmp_path: Path) -> None:
    _kill_repeatedly(tmp_path, 12)


@pytest.mark.slow
def test_kill_9_at_a_hundred_moments(tmp_path: Path) -> None:
    _kill_repeatedly(tmp_path, 100)


def _complete(path: Path) -> bool:
    return path.exists() and _stored(path) is not None and pyoip.load_survey(path).complete


def test_every_write_may_fail(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The k-th write fails, for k = 1, 2, …: a clear stop, and the same call goes on from there."""
    path, right = tmp_path / "failing.db", Store._many
    fails, left = 0, [0]

    def write(store: Store, statement: str, rows: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise sqlite3.OperationalError("database or disk is full")
        right(store, statement, rows)

    monkeypatch.setattr(Store, "_many", write)
    while not _complete(path):
        left[0] = 1 + fails % 5
        try:
            survey(path)
        except DataError as error:
            said = str(error)
            fails += 1
        assert fails < 200
    assert fails > 11  # once for every piece at least
    assert "all finished pieces are kept: make room, then run the same command again" in said
    left[0] = 0
    assert contents(path) == contents(whole)


def test_a_full_disk_is_told_and_can_be_gone_on_from(whole: Path, tmp_path: Path) -> None:
    """SQLite's own error, at the page that is too many."""
    path, opened = tmp_path / "full.db", sqlite3.connect

    def small(*args: Any, **more: Any) -> sqlite3.Connection:
        database = opened(*args, **more)
        database.execute("PRAGMA max_page_count = 20")
        return database

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyoip.surveys.store.sqlite3.connect", small)
        with pytest.raises(DataError, match=r"disk is full\); all finished pieces are kept"):
            survey(path)
    assert 0 < pyoip.load_survey(path).done < 11
    survey(path)
    assert contents(path) == contents(whole)


def test_an_unwritable_place_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "x.db", tmp_path / "none" / "x.db"):
        with pytest.raises(
            InvalidArgument, match=rf"x.db: there is no folder {place.parent}; make"
        ):
            survey(place)
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that nobody can write to")
def test_a_read_only_folder_is_refused_at_once() -> None:
    with pytest.raises(DataError, match=r"cannot be opened for writing \(.*look at the rights"):
        survey(Path("/proc/self/survey.db"))


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    with _begun(path) as first:
        assert first.stdout is not None
        first.stdout.readline()  # it has stored a piece
        os.kill(first.pid, signal.SIGSTOP)
        try:
            with pytest.raises(DataError, match="another process is writing it"):
                survey(path)
        finally:
            first.kill()
    assert survey(path).complete  # its lock died with it


def test_a_second_name_for_the_file_is_no_way_round_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "real.db"
    survey(path, mixes=MIXES[:1])
    (tmp_path / "link.db").symlink_to(path)
    plan = pyoip.load_survey(path).plan
    with Store(path, plan), pytest.raises(DataError, match="another process is writing it"):
        Store(tmp_path / "link.db", plan)


def test_a_lock_file_that_was_removed_while_another_waited_locks_nothing(tmp_path: Path) -> None:
    """Who opened it before its holder removed it must take the new one."""
    path = tmp_path / "x.db"
    opened, late = open, list[Any]()

    def open_late(*args: Any, **more: Any) -> Any:
        file = opened(*args, **more)
        if not late:
            late.append(True)
            store._Lock(path).release()  # another comes, and goes, before we lock
        return file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.open", open_late)
        mine = store._Lock(path)
    with pytest.raises(DataError, match="another process is writing it"):
        store._Lock(path)
    mine.release()


def test_a_reader_sees_one_state_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    survey(path, mixes=MIXES[:1])
    with reading(path) as database:
        before = database.execute("SELECT COUNT(*) FROM oips").fetchone()
        with closing(sqlite3.connect(path)) as writer, writer:
            writer.execute("DELETE FROM oips")
        assert database.execute("SELECT COUNT(*) FROM oips").fetchone() == before


def test_pieces_that_cannot_be_read_are_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that cannot be written, the pieces in SQLite's own file would be missing."""
    path, right = tmp_path / "ro.db", sqlite3.connect
    survey(path, mixes=MIXES[:1])

    def connect(address: Any, **more: Any) -> Any:
        if "immutable" not in str(address):
            raise sqlite3.OperationalError("unable to open database file")
        return right(address, **more)

    monkeypatch.setattr(store.sqlite3, "connect", connect)
    assert pyoip.load_survey(path).complete
    (tmp_path / "ro.db-wal").write_bytes(b"pieces")
    with pytest.raises(DataError, match=r"its last pieces are in ro.db-wal, which cannot be read"):
        pyoip.load_survey(path)


def test_a_finished_survey_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "alone.db"
    survey(path, mixes=MIXES[:1])
    pyoip.load_survey(path)
    assert [file.name for file in tmp_path.iterdir()] == ["alone.db"]


def test_readers_never_wait(tmp_path: Path) -> None:
    """Each sees whole pieces, more and more of them."""
    path, seen = tmp_path / "read.db", list[pyoip.Survey]()
    _unhurried(path, lambda at: seen.append(pyoip.load_survey(path)))
    done = [found.done for found in seen]
    assert done == sorted(done)
    assert len(set(done)) > 5
    for found in seen:
        stored = np.isfinite(found.activations)
        assert (stored.all(axis=1) | ~stored.any(axis=1)).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 7}, "was begun with seed=0, not 7"),
        ({"steps": 25}, "was begun with steps=24, not 25"),
        ({"starts": 31}, "was begun with starts=30, not 31"),
        ({"mixes": MIXES[:5]}, "was begun with 6 mixes, not 5"),
        ({"mixes": MIXES[::-1]}, "was begun with mix 0 of Fluctuations"),
        ({"engine": "onnx"}, "was begun with engine='auto', not 'onnx'"),
        (
            {"constraint": "clip"},
            "was begun with constraint='standardize', not 'clip' to 0 … 1; go on",
        ),
    ],
)
def test_other_settings_are_refused_by_name(
    changed: dict[str, Any], message: str, whole: Path
) -> None:
    before = contents(whole)
    with pytest.raises(DataError, match=message):
        survey(whole, **changed)
    assert contents(whole) == before


def test_another_model_is_refused(whole: Path) -> None:
    network = replace(pyoip.load("mnist"), sha256="0" * 64)
    with pytest.raises(DataError, match="was begun with another model of checksum 01afb769"):
        pyoip.survey(network, LAYER, out=whole, **FEW)


def test_the_same_model_by_another_name_goes_on(whole: Path) -> None:
    assert pyoip.survey(replace(pyoip.load("mnist"), name="x"), LAYER, out=whole, **FEW).complete


def test_other_maps_are_named(whole: Path) -> None:
    for maps, message in (("20-26", "20-27, not 20-26"), ("27,20-26", "20-27, in this order")):
        with pytest.raises(DataError, match=message):
            pyoip.survey("mnist", f"conv3:{maps}", out=whole, **FEW)


def test_other_versions_are_refused(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyoip.surveys.run.version", lambda _: "9.9")
    with pytest.raises(DataError, match=r"was begun with version='[\d.]+', not '9.9'"):
        survey(whole)


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    other, text = tmp_path / "other.db", tmp_path / "text.db"
    with closing(sqlite3.connect(other)) as database:
        database.execute("CREATE TABLE notes (line TEXT)")
    text.write_text("no database at all, and longer than a header of one hundred bytes " * 3)
    for path, message in ((other, "no survey; choose another"), (text, "no survey, or a damaged")):
        before = path.read_bytes()
        with pytest.raises(DataError, match=message):
            survey(path)
        with pytest.raises(DataError, match="no survey"):
            pyoip.load_survey(path)
        assert path.read_bytes() == before
    with closing(sqlite3.connect(tmp_path / "begun.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(DataError, match="empty; a survey that writes it has not begun yet"):
        pyoip.load_survey(tmp_path / "begun.db")
    for path in (tmp_path, Path("."), Path("/")):
        for act in (survey, pyoip.load_survey):
            with pytest.raises(DataError, match="is a folder; must be a file"):
                act(path)
    for nothing in ("", 3, None):
        with pytest.raises(InvalidArgument, match="must be the path of a file"):
            survey(nothing)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no such file; 'pyoip survey MODEL --out"):
        pyoip.load_survey(tmp_path / "missing.db")


def test_rates_are_those_of_this_session(tmp_path: Path, monkeypatch: Any) -> None:
    """What an earlier one has done took no time of this one, and is in its own sums."""
    path, told, now = tmp_path / "p.db", list[Any](), [0.0]

    def stop(at: Any) -> None:
        if at.done > 40:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        _unhurried(path, stop)
    monkeypatch.setattr("pyoip.surveys.run.time.perf_counter", lambda: now[0])
    plan = pyoip.load_survey(path).plan
    with Store(path, plan) as half:
        meter = Meter(half, told.append)
        now[0] = 10.0
        task = next(t for t in plan.tasks() if t.key not in half.done() and t.kind == "climb")
        meter.within(task)(0.5)
    assert told[0].done > 40
    assert told[0].rate == 0.5 * 8 * 2 / 10  # half of the piece, and nothing else, in ten seconds
    assert told[0].left == pytest.approx((told[0].total - told[0].done) / told[0].rate)
    assert told[0].silent == 1  # what is stored has activated the others
    monkeypatch.undo()
    time.sleep(0.01)
    survey(path)
    with reading(path) as database:
        each = database.execute("SELECT seconds, ascents FROM sessions").fetchall()
    assert len(each) == 2
    assert pyoip.load_survey(path).seconds == pytest.approx(sum(second for second, _ in each))
    assert sum(ascents for _, ascents in each) == 2 * 8 + 6 * 8 * 2  # nothing was made twice


def test_progress_tells_how_far_how_fast_and_what_is_silent(tmp_path: Path) -> None:
    told = list[Any]()
    _unhurried(tmp_path / "p.db", told.append)
    scored = 6 * 30 / IMAGES_PER_ASCENT
    assert told[-1].done == told[-1].total == 2 * 8 + 6 * 8 * 2 + scored
    assert all(a.done <= b.done for a, b in pairwise(told))
    assert told[0].silent < 8  # the article's way has activated some
    assert told[-1].silent == 1  # the dead one
    assert told[-1].left == 0.0
    assert told[-1].rate > 0


# --- the answers -------------------------------------------------------------------------------


def test_intervals_are_wilsons(found: pyoip.Survey) -> None:
    """By hand for 10 of 30: 0.1923 to 0.5122; at 0 of 30 the upper end is 0.1135."""
    tenth = replace(found, alive=np.full_like(found.alive, 1 / 3))
    low, high = tenth.intervals()
    np.testing.assert_allclose([low[0, 0], high[0, 0]], [0.1923, 0.5122], atol=2e-4)
    none = replace(found, alive=np.zeros_like(found.alive)).intervals()
    np.testing.assert_allclose([none[0][0, 0], none[1][0, 0]], [0.0, 0.1135], atol=2e-4)


def test_scales_are_weighed_by_their_share(found: pyoip.Survey) -> None:
    """Mixes of 4 px, 1 px and both, smoothed or not: both count by what each contributes."""
    assert [mix.weights for mix in MIXES[:3]] == [(0, 1), (1, 0), (1, 1)]
    one = [shares(mix, (1, 4), (1, 28, 28))[0] for mix in (MIXES[2], MIXES[5])]
    four = [1 - share for share in one]
    alive = np.array([0.2, 0.6, 1.0, 0.2, 0.6, 1.0])[:, None] * np.ones(8)
    made = replace(found, alive=alive, activations=np.ones_like(alive))
    expected = [(2 * own + sum(both)) / (2 + sum(both)) for own, both in ((0.6, one), (0.2, four))]
    np.testing.assert_allclose(made.waking()[0], expected)
    halves = np.array([1.0, 2.0, 4.0, 1.0, 2.0, 4.0])[:, None] * np.ones(8)
    led = replace(found, activations=halves)
    expected = [(2 * own + sum(both)) / (2 + sum(both)) for own, both in ((0.5, one), (0.25, four))]
    np.testing.assert_allclose(led.leading()[0], expected)


def test_a_scale_is_best_where_its_interval_stands_apart(found: pyoip.Survey) -> None:
    alive = np.full((6, 8), 0.5)
    alive[1::3, 0] = 0.95  # 1 px alone
    alive[0::3, 1] = 0.99  # 4 px alone
    plan = replace(found.plan, starts=10_000)
    made = replace(found, plan=plan, alive=alive, activations=np.ones_like(alive))
    assert made.best_scales()[:3] == [1.0, 4.0, None]
    low, high = made.waking_intervals()
    waking = made.waking()
    assert ((low < waking) & (waking < high)).all()
    all_alike = replace(made, alive=np.ones_like(alive))
    assert set(all_alike.best_scales()) == {None}
    assert "no scale wakes any map better than the others do" in str(
        replace(all_alike, verdicts=np.full((6, 8), "found"))
    )


def test_missing_pieces_count_for_nothing(found: pyoip.Survey) -> None:
    some = found.activations.copy()
    some[2:] = np.nan
    made = replace(found, activations=some)
    assert np.isfinite(made.waking()).all()
    np.testing.assert_allclose(made.waking()[:, 1], found.alive[0])
    none = replace(found, activations=np.full_like(some, np.nan))
    assert none.counts() == {"missing": 8}


def test_the_smallest_set_of_start_images_is_greedy(found: pyoip.Survey) -> None:
    awake = {
        (mix, start): set(np.flatnonzero(row > 0))
        for mix in range(len(MIXES))
        for start, row in enumerate(pyoip.score("mnist", _pool(found, mix), LAYER))
    }
    left = set(range(8)) - {found.maps.index(25)}
    for starter in found.cover:
        served = awake[starter.mix, starter.start]
        assert starter.new == len(served & left) == max(len(a & left) for a in awake.values())
        assert {found.maps[i] for i in served} == set(starter.maps)
        left -= served
    assert not left


def test_correlation_is_blind_to_shifts_and_contrast() -> None:
    image = np.random.default_rng(2).standard_normal((3, 9, 8))
    moved = 5 + 0.1 * np.roll(image, (4, -3), axis=(1, 2))
    assert correlation(image, moved) == pytest.approx(1.0)
    other = np.random.default_rng(3).standard_normal((3, 9, 8))
    assert correlation(image, other) < 0.4
    assert correlation(image, np.ones_like(image)) == 0.0
    assert correlation(image, image[::-1]) < 0.6  # channels are not exchanged


def test_likeness_is_more_than_chance() -> None:
    """Unrelated smooth images correlate by far more than rough ones do."""
    smooth = pyoip.start_images(2, fluctuations=Fluctuations((9,), (1,), 4))
    rough = pyoip.start_images(2, fluctuations=Fluctuations((1,), (1,)))
    assert by_chance(rough[0]) < 0.25
    assert 0.5 < by_chance(smooth[0]) < 0.95
    assert by_chance(smooth[0]) == by_chance(smooth[0])
    assert correlation(*smooth) < by_chance(smooth[0])


def test_clusters_gather_what_is_alike_under_the_highest(
    found: pyoip.Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    one, other = rng.standard_normal((2, 1, 28, 28)).astype(np.float32)
    images = np.stack([one, np.roll(one, 3, axis=2), other, np.roll(other, 5, axis=1), one, other])
    monkeypatch.setattr(pyoip.Survey, "images", lambda self, map: (np.arange(6), images))
    values = np.array([1.0, 3.0, 2.0, 0.0, 0.5, 2.5])  # the fourth is silent
    made = replace(found, activations=np.repeat(values[:, None], 8, axis=1))
    first, second = made.clusters(20)
    assert (first.mix, first.mixes, first.activation) == (1, (0, 1, 4), 3.0)
    assert (second.mix, second.mixes) == (5, (2, 5))
    np.testing.assert_array_equal(first.image, images[1])
    assert len(made.clusters(20, likeness=1.0)) >= 2
    assert len(made.clusters(20, likeness=0.0)) == 1


# --- tables ------------------------------------------------------------------------------------


def test_csv_has_a_row_per_map_and_mix(found: pyoip.Survey, tmp_path: Path) -> None:
    from pyoip.surveys.export import write_table

    assert write_table(found, tmp_path / "t.csv") == 48
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    row = rows[2 * 8 + 3]
    assert (row["mix"], row["map"]) == ("2", "23")
    assert float(row["activation"]) == found.activations[2, 3]
    assert (row["scales"], row["weights"], row["smoothing"]) == ("1 4", "1 1", "0")


def test_parquet_and_arrays_hold_images_and_plan(found: pyoip.Survey, tmp_path: Path) -> None:
    from pyarrow import parquet

    from pyoip.surveys.export import write_table

    assert write_table(found, tmp_path / "t.parquet") == 48
    table = parquet.read_table(tmp_path / "t.parquet")
    image = np.array(table["image"][2 * 8 + 3].as_py(), np.float32).reshape(1, 28, 28)
    np.testing.assert_array_equal(image, found.image(23, 2))
    texts = json.loads(table.schema.metadata[b"pyoip.plan"])
    assert Plan.from_texts(texts) == found.plan
    assert write_table(found, tmp_path / "t.npz") == 48
    with np.load(tmp_path / "t.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"][2, 3], found.image(23, 2))
        np.testing.assert_array_equal(arrays["alive"], found.alive)
        assert Plan.from_texts(json.loads(str(arrays["plan"]))) == found.plan
    with pytest.raises(InvalidArgument, match=r"must end in .csv, .parquet, .npz"):
        write_table(found, tmp_path / "t.xlsx")


# --- other machines ------------------------------------------------------------------------------


def test_maps_climb_when_all_scores_of_their_mix_are_in(
    found: pyoip.Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "SCORED_AT_ONCE", 20)  # ten of two mixes
    monkeypatch.setattr(plan_module, "SCORED_LEAST", 10)
    queue, ready = Queue(found.plan, set()), list[Any]()
    while batch := list(queue.take(4)):
        for task in batch:
            if task.kind == "climb":
                scored = [t for t in ready if t.kind == "score" and task.mix in t.covered]
                assert len(scored) == 3
        for task in batch:
            ready.append(task)
            queue.finished(task)
    assert sorted(ready) == sorted(found.plan.tasks())
    some = {task.key for task in ready[:9]}
    rest = Queue(found.plan, some)
    assert {task.key for task in rest.take(99)}.isdisjoint(some)
