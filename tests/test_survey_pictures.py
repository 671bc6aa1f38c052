"""The pictures of a survey: what their cells, curves and captions say, and that it can be read."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

import pyoip
from pyoip.canvas import contrast_window, to_pixels
from pyoip.surveys import plan as plan_module
from pyoip.surveys.findings import Survey
from pyoip.surveys.load import load_survey
from pyoip.surveys.pictures import (
    coverage,
    draw_coverage,
    draw_gallery,
    draw_starters,
    draw_waking_map,
    gallery,
    starters,
    waking_map,
    write_gallery,
    write_pictures,
)
from pyoip.surveys.pictures.coverage import _apart
from pyoip.surveys.pictures.gallery import gallery_window, in_short
from pyoip.surveys.pictures.waking import (
    LABELS,
    LEADS,
    PANEL_HEAD,
    WAKES,
    Column,
    _numbered,
    hardest_first,
)
from pyoip.surveys.plan import Plan, shares
from pyoip.surveys.report import about_map, summary
from pyoip.surveys.starters import Starter

MIXES = pyoip.grid(scales=(1, 4), smoothings=(0, 1))


@pytest.fixture(scope="module", autouse=True)
def pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "MIXES_AT_ONCE", 1)
        patch.setattr(plan_module, "CLIMBED_AT_ONCE", 6)
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    out = tmp_path_factory.mktemp("small") / "conv1.survey"
    return pyoip.survey(
        "mnist", "conv1:0-5", out=out, mixes=MIXES, starts=20, ascents=1, article=2, steps=20
    )


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """Maps of which one is dead and some are rarely awake, with several OIPs each."""
    out = tmp_path_factory.mktemp("deep") / "conv3.survey"
    mixes = pyoip.grid(scales=(1, 4, 9), smoothings=(0, 2))
    maps = "conv3:2,4,10,18,25,84"
    return pyoip.survey(
        "mnist", maps, out=out, mixes=mixes, starts=30, ascents=1, article=3, steps=30
    )


def handmade(
    alive: object,
    activations: object,
    mixes: tuple[pyoip.Fluctuations, ...] = MIXES,
    verdicts: dict[int, str] | None = None,
    like: Survey | None = None,
) -> Survey:
    """A survey whose file is never read."""
    alive, activations = np.array(alive, float), np.array(activations, float)
    maps = tuple(range(10, 10 + alive.shape[1]))
    words = np.where(np.isfinite(activations), "found", "").astype("<U16")
    for column, verdict in (verdicts or {}).items():
        words[:, column] = np.where(words[:, column] == "", "", verdict)
    plan = Plan(
        *("net", "0", "none", 1, "conv"),
        maps=maps,
        shape=(1, 28, 28),
        mixes=mixes,
        starts=10,
        ascents=2,
        article=0,
        settings=pyoip.Settings(),
        engine="cpu",
        version="",
    )
    zeros, ends = np.zeros(alive.shape), np.full(len(maps), np.nan)
    found = Survey(
        path=Path("none"),
        plan=plan,
        alive=alive,
        activations=activations,
        preactivations=activations - 1,
        verdicts=words,
        stops=words,
        steps=zeros,
        woke=zeros,
        starts=zeros,
        real=ends,
        bounds=ends,
        done=1,
        total=1,
        seconds=0.0,
        ascents=0,
        images_scored=0,
        _article={"activations": np.zeros((0, len(maps)))},
    )
    found.__dict__["cover"] = ()
    return found


def many(count: int, mixes: tuple[pyoip.Fluctuations, ...] | None = None) -> Survey:
    mixes = pyoip.grid() if mixes is None else mixes
    shape = (len(mixes), count)
    values = np.random.default_rng(5).random(shape)
    verdicts = {0: "silent", count // 2: "weak", count - 1: "dead"} if count > 2 else {}
    return handmade(values, values + 1, mixes, verdicts)


def rendered(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3]


def check_that_it_can_be_read(figure) -> None:
    """No text leaves the page, and no two touch."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text().strip()]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in zip(texts, boxes, strict=True):
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width - 8 and box.y1 <= height
        assert inside, (text.get_text(), box)
    edges = np.array([box.extents for box in boxes])
    for i, (x0, y0, x1, y1) in enumerate(edges[:-1]):
        rest = edges[i + 1 :]
        # Boxes have a pixel or two of air above and below their letters.
        over = (rest[:, 0] < x1 - 0.5) & (rest[:, 2] > x0 + 0.5)
        over &= (rest[:, 1] < y1 - 3) & (rest[:, 3] > y0 + 3)
        hit = [texts[i + 1 + k].get_text() for k in np.flatnonzero(over)]
        assert not hit, (texts[i].get_text(), hit)


# --- which scales wake a map ---------------------------------------------------------------------


def test_a_cell_is_the_mean_over_mixes_of_its_smoothing_by_their_share_of_the_variance():
    mixes = (
        pyoip.Fluctuations((1, 4), (1, 0), 0),
        pyoip.Fluctuations((1, 4), (1, 0.5), 0),
        pyoip.Fluctuations((1, 4), (1, 0.5), 3),
    )
    found = handmade([[0.1], [0.6], [0.9]], [[1.0], [2.0], [4.0]], mixes)
    sheet, sheet_shape = waking_map(found), found.plan.shape
    assert sheet.columns == (
        *(Column(None, None), Column(1, 0), Column(1, 3), Column(4, 0), Column(4, 3)),
    )
    one = shares(mixes[1], (1, 4), sheet_shape)[0]
    first = (0.1 + one * 0.6) / (1 + one)
    assert sheet.waking[0] == pytest.approx([1.6 / 3, first, 0.9, 0.6, 0.9])
    heights = [1.75 / 3, (0.25 + one * 0.5) / (1 + one), 1.0, 0.5, 1.0]
    assert sheet.leading[0] == pytest.approx(heights)


def test_with_one_smoothing_the_cells_are_those_of_the_survey():
    mixes = pyoip.grid(scales=(1, 2, 9), levels=(0, 0.4, 1), smoothings=(2,))
    values = np.random.default_rng(2).random((len(mixes), 5))
    found = handmade(values, values * 3, mixes)
    sheet, order = waking_map(found), hardest_first(found)
    assert np.allclose(sheet.waking[:, 1:], found.waking()[order], rtol=1e-12)
    assert np.allclose(sheet.leading[:, 1:], found.leading()[order], rtol=1e-12)


def test_the_hardest_map_is_on_top_and_what_is_missing_at_the_bottom():
    hole = np.nan
    alive = [[0.5, 0.0, 0.0, 0.2, hole, 0.0]] * 6
    activations = [[1.0, 0.0, 0.0, 1.0, hole, 1.0]] * 6
    verdicts = {1: "silent", 2: "dead"}
    sheet = waking_map(handmade(alive, activations, verdicts=verdicts))
    assert sheet.maps == (12, 11, 15, 13, 10, 14)
    assert sheet.verdicts == ("dead", "silent", "found", "found", "found", "missing")


def test_zero_missing_and_little_look_different():
    """A map that nothing activates, one that is not computed, and one that hardly wakes."""
    for steps in (WAKES, LEADS):
        assert steps.of(np.array([np.nan, 0.0, 1e-6])).tolist() == [-2, -1, 0]
    alive = [[0.0, 0.005, np.nan]] * 6
    sheet = waking_map(handmade(alive, [[0.0, 1.0, np.nan]] * 6, verdicts={0: "silent"}))
    assert np.isnan(sheet.leading[2]).all()
    assert (sheet.leading[0] == 0).all()
    row = sheet.blocks.row
    for picture in sheet.pictures[0]:
        rows = [picture[i * row : (i + 1) * row, : sheet.blocks.cell] for i in range(3)]
        assert all((one != other).any() for one, other in combinations(rows, 2))


def test_steps_end_at_the_values_of_the_key_and_get_darker():
    for steps in (WAKES, LEADS):
        assert steps.of(np.array(steps.edges)).tolist() == list(range(8))
        above = np.nextafter(np.array(steps.edges[:-1]) + 1e-9, 2)
        assert steps.of(above).tolist() == list(range(1, 8))
        light = [sum(bytes.fromhex(colour[1:])) for colour in steps.colours]
        assert light == sorted(light, reverse=True)
        assert np.diff(light).max() < -50


def test_a_mean_of_ones_stays_in_the_last_step():
    assert WAKES.of(np.array([1 + 4e-16])).tolist() == [7]


def test_mixes_that_are_not_stored_do_not_count():
    alive, activations = np.full((6, 1), 0.4), np.full((6, 1), 2.0)
    alive[3:], activations[3:] = np.nan, np.nan  # all with smoothing 1
    sheet = waking_map(handmade(alive, activations))
    assert sheet.waking[0, [0, 1, 3]] == pytest.approx([0.4, 0.4, 0.4])
    assert np.isnan(sheet.waking[0, [2, 4]]).all()


@pytest.mark.parametrize("count", [1, 32, 64, 128, 512, 2048])
def test_every_map_has_a_row_whatever_their_number(count):
    sheet = waking_map(many(count))
    blocks = sheet.blocks
    assert sorted(sheet.maps) == list(range(10, 10 + count))
    assert sum(len(left) for left, _ in sheet.pictures) == count * blocks.row
    assert len(sheet.pictures) == len(blocks.lefts)
    assert sheet.size[0] <= 1800
    assert sheet.size[1] <= 2700
    every = _numbered(blocks.row)
    assert every * blocks.row >= 9  # pixels for a number of the map
    assert (every == 1) == (count <= 512)
    check_that_it_can_be_read(draw_waking_map(sheet))


@pytest.mark.parametrize(
    "mixes",
    [
        (pyoip.Fluctuations((3,), (1,)),),
        pyoip.grid(scales=(1, 4), smoothings=(0,)),
        tuple(
            pyoip.Fluctuations(tuple(range(1, 21)), (1,) * 20, smoothing)
            for smoothing in range(0, 100, 10)
        ),
    ],
    ids=["one", "three", "many"],
)
def test_any_number_of_columns_can_be_read(mixes):
    sheet = waking_map(many(30, mixes))
    assert sheet.size[0] <= 2000
    check_that_it_can_be_read(draw_waking_map(sheet))


def test_what_is_drawn_is_the_colour_of_the_value():
    alive = np.full((6, 3), [0.05, 0.6, 0.995])
    sheet = waking_map(handmade(alive, alive))
    page = rendered(draw_waking_map(sheet))
    x = sheet.blocks.lefts[0] + LABELS
    y = sheet.head.top + PANEL_HEAD
    for i, step in enumerate((1, 4, 7)):
        colour = page[y + i * sheet.blocks.row + 5, x + 5]
        assert tuple(colour) == tuple(bytes.fromhex(WAKES.colours[step][1:]))


def test_small_print_says_what_a_cell_is(deep):
    text = " ".join(waking_map(deep).head.rule)
    assert "share of a mix's 30 start images that activate the map" in text
    assert "the mean over those of the 14 mixes that have its smoothing" in text
    assert "× dead: proven that no admissible image can." in text


# --- which start images serve a layer ------------------------------------------------------------


def test_the_curve_adds_up_what_is_new_and_ends_where_the_set_does(deep):
    sheet = coverage(deep)
    assert sheet.covered[0] == 0
    assert sheet.covered[1] == max(len(starter.maps) for starter in deep.cover)
    union = {number for starter in deep.cover for number in starter.maps}
    assert sheet.covered[-1] == len(union)
    assert len(sheet.covered) == len(deep.cover) + 1


def test_the_article_has_a_dot_for_each_start_image(deep):
    sheet = coverage(deep)
    values = deep.article()
    assert sheet.article == tuple((values > 0).sum(axis=1))
    assert sheet.together == (values > 0).any(axis=0).sum()
    assert len(sheet.article_x) == 3
    left, right = sheet.panels[0]
    assert left < sheet.article_x[0] < sheet.article_x[-1] < right


def test_maps_that_wake_in_ascents_alone_are_told(deep):
    """Nothing that was scored activates map 12, but an ascent does."""
    found = handmade([[0.5, 0.5, 0.0]] * 6, [[1.0, 1.0, 0.0]] * 5 + [[1.0, 1.0, 0.1]])
    found.__dict__["cover"] = (Starter(0, 3, (10, 11), 2),)
    assert found.woken == (12,)
    sheet = coverage(found)
    assert (sheet.found, sheet.covered) == (3, (0, 2))
    words = [label.text for label in sheet.labels[1]]
    at = words.index("3 activated by the whole survey, all that can be")
    assert words[at + 1] == "1 of these in ascents alone"
    assert "No start image activates 1 of the maps that the survey does" in " ".join(
        sheet.head.rule
    )
    assert "maps that wake in ascents alone: 12" in summary(found)
    check_that_it_can_be_read(draw_coverage(sheet))
    assert deep.woken == ()
    assert "No start image activates" not in " ".join(coverage(deep).head.rule)


def test_what_is_scored_but_not_climbed_for_yet_counts_as_activated(deep, tmp_path):
    found = cut(deep, tmp_path / "cut", 0, scored=1)
    assert not np.isfinite(found.activations).any()
    sheet = coverage(found)
    assert sheet.found == sheet.covered[-1] > 0


def test_the_ceiling_leaves_out_the_dead(deep):
    sheet = coverage(deep)
    assert (sheet.total, sheet.dead, sheet.found) == (6, 1, 5)
    words = [label.text for label in sheet.labels[1]]
    assert "1 dead: no image can activate it" in words
    assert "5 activated by the whole survey, all that can be" in words
    page = rendered(draw_coverage(sheet))
    x = int(sheet.panels[1][0]) + 4
    inside, below = (page[int(sheet.y(n)), x].astype(int) for n in (5.5, 4.5))
    assert inside[0] > inside[1] + 5  # reddish
    assert below[0] < below[1] + 5


def test_labels_stand_apart_in_the_order_of_their_values():
    wanted = [(10.0, "b", ""), (10.0, "c", ""), (11.0, "a", ""), (2.0, "d", "")]
    labels = _apart(wanted, lambda count: 100 - count)
    assert [label.text for label in labels] == ["a", "b", "c", "d"]
    ys = [label.y for label in labels]
    assert ys == [89, 103, 117, 131]
    assert labels[1].anchor == 90


def test_a_survey_without_the_article_and_without_a_set():
    sheet = coverage(handmade([[0.0, 0.0]] * 6, [[0.0, 0.0]] * 6, verdicts={0: "dead", 1: "dead"}))
    assert (sheet.covered, sheet.article, sheet.found) == ((0,), (), 0)
    figure = draw_coverage(sheet)
    words = {text.get_text() for text in figure.findobj(Text)}
    assert {"no part of this survey", "0 by no start image"} <= words
    check_that_it_can_be_read(figure)


def test_a_long_curve_can_be_read():
    found = many(512)
    new = [200, 90, 60, 40, 25, 15, 10, 8, 6, 5, 4, 3, 3, 2, 2, *[1] * 13]
    found.__dict__["cover"] = tuple(Starter(i, i, (10,), n) for i, n in enumerate(new))
    way = np.linspace(0, 1, 512) - np.linspace(0.4, 0.6, 16)[:, None]
    sheet = coverage(replace_article(found, way))
    assert sheet.covered[-1] == sum(new)
    assert len(sheet.article) == 16
    check_that_it_can_be_read(draw_coverage(sheet))
    check_that_it_can_be_read(draw_starters(starters(found)))


def replace_article(found: Survey, values: np.ndarray) -> Survey:
    other = replace(found, _article={"activations": values})
    other.__dict__["cover"] = found.cover
    return other


# --- one OIP or several --------------------------------------------------------------------------


def test_a_row_shows_the_best_of_each_cluster_best_first(deep):
    sheet = gallery(deep, [84, 18])
    assert [row.map for row in sheet.rows] == [84, 18]
    clusters = deep.clusters(18)
    row = sheet.rows[1]
    assert row.different == len(clusters) > 1
    assert len(row.portraits) == min(8, len(clusters))
    zooms = [4, 3, 3, 3, 3, 3, 3, 3]
    for portrait, cluster, zoom in zip(row.portraits, clusters, zooms, strict=False):
        assert (portrait.picture == to_pixels(cluster.image, sheet.window, zoom)).all()
        assert portrait.size == f"×{len(cluster.mixes)}"
    shares = [round(100 * c.activation / clusters[0].activation) for c in clusters[1:8]]
    assert [portrait.value for portrait in row.portraits[1:]] == [f"{share} %" for share in shares]
    assert float(row.portraits[0].value) == pytest.approx(clusters[0].activation, rel=1e-3)


def test_more_kinds_than_fit_are_counted(deep, monkeypatch):
    monkeypatch.setattr(import_module("pyoip.surveys.pictures.gallery"), "MOST_KINDS", 2)
    sheet = gallery(deep, [18])
    left = len(deep.clusters(18)) - 2
    figure = draw_gallery(sheet)
    assert len(sheet.rows[0].portraits) == 2
    assert f"+{left} more" in {text.get_text() for text in figure.findobj(Text)}


def test_a_dead_map_is_an_empty_frame_with_its_verdict(deep):
    sheet = gallery(deep, [25])
    assert (sheet.rows[0].verdict, sheet.rows[0].portraits) == ("dead", ())
    figure = draw_gallery(sheet)
    assert "× dead" in {text.get_text() for text in figure.findobj(Text)}
    assert not figure.axes[0].images
    lines = figure.axes[0].lines
    assert [len(line.get_xdata()) for line in lines] == [5, 2]  # frame, stroke


def test_all_pages_have_one_contrast(deep):
    window = gallery_window(deep)
    bests = [deep.image(best.map, best.mix) for best in deep.best if best.activation > 0]
    assert window == contrast_window(np.array(bests))
    assert gallery(deep, [2]).window == gallery(deep, [84, 4]).window == window


def test_a_mix_in_short_names_what_matters_strongest_first():
    words = in_short(pyoip.Fluctuations((1, 2, 4, 9), (0.5, 0.01, 1, 1), 1))
    assert words == ("4+9+1 px", "smoothed 1×")
    even = pyoip.Fluctuations(tuple(range(1, 21)), (1,) * 20)  # none has a tenth
    assert in_short(even) == ("1 px",)


# --- the start images that serve a layer ---------------------------------------------------------


def test_starters_are_the_images_that_activate_so_many_maps(deep):
    sheet = starters(deep)
    plan = deep.plan
    assert len(sheet.images) == len(deep.cover)
    for shown, starter in zip(sheet.images, deep.cover, strict=True):
        image = pyoip.start_images(indices=[starter.start], fluctuations=plan.mixes[starter.mix])
        assert (shown.picture == to_pixels(image[0], sheet.window, 4)).all()
        values = pyoip.score("mnist", image, 3)[0][list(plan.maps)]
        assert shown.maps.split()[0] == f"{(values > 0).sum()}"
        assert shown.mix[-1] == f"image {starter.start}"


# --- all of them ---------------------------------------------------------------------------------


def all_figures(found: Survey):
    yield draw_waking_map(waking_map(found))
    yield draw_coverage(coverage(found))
    yield draw_gallery(gallery(found))
    yield draw_starters(starters(found))


def test_every_page_can_be_read(small, deep):
    for found in (small, deep):
        for figure in all_figures(found):
            check_that_it_can_be_read(figure)


def test_a_long_name_does_not_meet_the_verdicts(deep):
    found = replace(deep, plan=replace(deep.plan, network="a_network_with_a_long_name"))
    for figure in all_figures(found):
        check_that_it_can_be_read(figure)


def test_write_pictures_writes_what_it_says(small, tmp_path):
    paths = write_pictures(small, tmp_path / "new" / "folder")
    names = ["waking.png", "coverage.png", "starters.png", "gallery.png"]
    assert [path.name for path in paths] == names
    for path, page in zip(
        paths, (waking_map(small), coverage(small), starters(small), gallery(small)), strict=True
    ):
        with Image.open(path) as image:
            assert image.size == page.size


def test_more_maps_than_a_page_holds_go_on_further_pages(small, tmp_path, monkeypatch):
    monkeypatch.setattr("pyoip.surveys.pictures.MAPS_ON_PAGE", 4)
    names = [path.name for path in write_pictures(small, tmp_path)]
    assert names[3:] == ["gallery_1.png", "gallery_2.png"]
    with Image.open(tmp_path / "gallery_2.png") as image:
        assert image.size == gallery(small, [4, 5]).size
    write_gallery(small, [4, 5], tmp_path / "two.png")
    with Image.open(tmp_path / "two.png") as image:
        assert image.size == gallery(small, [4, 5]).size


def cut(found: Survey, path: Path, mixes: int, scored: int | None = None) -> Survey:
    """The same survey before the end: of so many mixes, and of one start image of the article.

    The start images of `scored` mixes, by default of as many, are scored.
    """
    shutil.copy(found.path, path)
    database = sqlite3.connect(path, isolation_level=None)
    for table, kept in (("scores", mixes if scored is None else scored), ("oips", mixes)):
        database.execute(f"DELETE FROM {table} WHERE mix >= ?", (kept,))
    database.execute("DELETE FROM article WHERE start > 0")
    database.execute("DELETE FROM tasks WHERE mix >= ? OR (mix < 0 AND first > 0)", (mixes,))
    database.close()
    return load_survey(path)


@pytest.mark.parametrize("mixes", [0, 2])
def test_a_survey_that_is_not_complete(small, mixes, tmp_path):
    found = cut(small, tmp_path / "cut", mixes)
    assert (found.done, found.total) == (1 + 2 * mixes, 14)
    assert len(write_pictures(found, tmp_path / "pictures")) == 4
    for figure in all_figures(found):
        check_that_it_can_be_read(figure)
    sheet = waking_map(found)
    words = f"Not complete: {found.done} of 14 pieces of work are done."
    assert words in " ".join(sheet.head.subtitle)
    texts = {text.get_text() for text in draw_coverage(coverage(found)).findobj(Text)}
    assert "1 of 2 start images yet" in texts
    assert any(" activated by the survey so far" in text for text in texts)
    planned = f"the {mixes * 20} start images that are scored so far (to be 6 × 20 start images)"
    assert planned in " ".join(coverage(found).head.rule)
    if mixes:
        assert planned in " ".join(starters(found).head.rule)
    assert (set(sheet.verdicts) == {"missing"}) is (mixes == 0)
    assert all(bool(row.portraits) is (mixes > 0) for row in gallery(found).rows)
    assert np.isnan(sheet.waking[:, [2, 4]]).all()  # those that were smoothed come last


def test_words_of_a_survey_that_is_not_complete(small, tmp_path):
    found = cut(small, tmp_path / "cut", 2)
    lines = summary(found)
    assert any(line.startswith("maps so far: ") for line in lines)
    nothing = summary(cut(small, tmp_path / "nothing", 0))
    assert "not climbed for yet: 0-5" in nothing
    assert not any(line.startswith("silent") for line in nothing)
    assert not any(line.startswith("maps: ") for line in lines)
    way = next(line for line in lines if line.startswith("the article's way"))
    assert way.endswith("; 1 more to come")
    text = about_map(found, 0)
    assert text[1] == "so far: 5 of 14 pieces are stored"
    assert "of the start images so far activate it" in text[2]
    whole = "\n".join([*summary(small), *about_map(small, 0)])
    assert "so far" not in whole
    assert "to come" not in whole
    assert "of all start images activate it" in whole


def test_colours_other_shapes_and_a_single_map(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 5), torch.nn.ReLU())
    options = {"mixes": MIXES[0], "starts": 3, "ascents": 1, "article": 1, "steps": 5}
    shape = (3, 20, 14)
    found = pyoip.survey(net, 1, [1], out=tmp_path / "rgb", input_shape=shape, **options)
    assert len(write_pictures(found, tmp_path / "pictures")) == 4
    sheet = gallery(found)
    (portrait,) = sheet.rows[0].portraits
    zoom = portrait.picture.shape[0] // 20
    assert portrait.picture.shape == (20 * zoom, 14 * zoom, 3)
    assert (portrait.picture[:, :, 0] != portrait.picture[:, :, 1]).any()
    for figure in all_figures(found):
        check_that_it_can_be_read(figure)
