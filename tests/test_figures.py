"""Contact sheet and evolution strip: the data they show, and that drawing shows it crisply."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from pyoip.canvas import (
    SIGNS,
    Window,
    colour,
    contrast_window,
    format_values,
    show,
    to_pixels,
    write_figure,
    write_png,
)
from pyoip.evolution import draw_evolution, evolution
from pyoip.figures import contact_sheet, draw_contact_sheet, map_pictures
from pyoip.pictures import LINES, picture_of, window_of
from pyoip.summary import VERDICTS


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def sheet_of(n: int, shape=(1, 28, 28), verdicts=None, **extra):
    verdicts = verdicts or ["found"] * n
    activations = np.linspace(0.5, 4.0, n)
    return contact_sheet(
        noise(n, *shape), range(n), verdicts, activations, title="net · layer 2", **extra
    )


def rendered(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3]


# --- the contrast rule ---------------------------------------------------------------------


def test_window_is_symmetrical_around_the_mean_and_ends_at_the_99th_percentile():
    images = noise(5, 1, 20, 20) * 3 + 10
    window = contrast_window(images)
    mean = images.astype(np.float64).mean()
    inside = np.abs(images - mean) <= (window.high - window.low) / 2
    assert (window.low + window.high) / 2 == pytest.approx(mean)
    assert 0.99 <= inside.mean() < 0.9915


def test_one_window_for_all_pictures_of_a_sheet():
    images = noise(2, 1, 28, 28)
    images[0] -= images[0].mean()
    images[1] = images[0] / 4  # must look four times paler, not the same
    sheet = contact_sheet(images, [0, 1], ["found"] * 2, [1, 1], title="")
    strong, pale = (tile.picture.astype(float) - 127.5 for tile in sheet.tiles)
    inner = np.abs(strong) < 127
    assert np.abs(pale[inner] - strong[inner] / 4).max() <= 1


def test_start_images_do_not_move_the_window():
    assert sheet_of(3).window == sheet_of(3, starts=noise(3, 1, 28, 28) * 100).window


def test_the_sheet_states_its_rule_with_its_numbers():
    sheet = contact_sheet(
        np.array([-2.5, 0.0, 2.5]).reshape(1, 1, 3, 1), [0], ["found"], [1.0], title="mnist"
    )
    text = " ".join(sheet.rule)
    assert "One linear scale for all pictures of this sheet, symmetrical around their mean" in text
    assert "black −2.5, white 2.5 (mean ± 99th percentile of the distance from it)" in text


def test_flat_pictures_are_middle_grey():
    flat = np.full((1, 1, 4, 4), 3.0)
    assert set(np.unique(to_pixels(flat[0], contrast_window(flat)))) == {128}


def test_infinite_pixels_do_not_spoil_the_window():
    images = noise(1, 1, 8, 8)
    images[0, 0, 0, :2] = np.inf, np.nan
    assert np.isfinite(contrast_window(images).high)


# --- pixels --------------------------------------------------------------------------------


def test_grey_levels_are_linear_and_clipped():
    row = np.array([[[-9.0, -1.0, 0.5, 1.0, 9.0]]])
    assert to_pixels(row, Window(-1, 1))[0, :, 0].tolist() == [0, 0, 191, 255, 255]


def test_three_channels_are_red_green_blue():
    image = np.array([1.0, 0.0, -1.0]).reshape(3, 1, 1)
    assert to_pixels(image, Window(-1, 1))[0, 0].tolist() == [255, 128, 0]


def test_other_channel_counts_show_the_mean_in_grey_and_say_so():
    image = np.array([1.0, -1.0, -1.0, -1.0]).reshape(4, 1, 1)
    assert to_pixels(image, Window(-1, 1))[0, 0].tolist() == [64, 64, 64]
    assert "Grey: mean of the 4 channels." in " ".join(sheet_of(2, (4, 9, 9)).rule)
    assert "channels" not in " ".join(sheet_of(2, (3, 9, 9)).rule)


def test_zoom_repeats_pixels_in_blocks():
    image = np.array([[[-1.0, 1.0], [1.0, -1.0]]])
    expected = np.kron([[0, 255], [255, 0]], np.ones((3, 3), int))
    assert to_pixels(image, Window(-1, 1), 3)[:, :, 1].tolist() == expected.tolist()


def test_map_pictures_share_the_sheets_window(tmp_path):
    images = noise(2, 1, 28, 28)
    images[1] /= 4
    for name, write in map_pictures(images, [3, 140]).items():
        write(tmp_path / name)
    with Image.open(tmp_path / "map_140.png") as picture:
        assert (picture.mode, picture.size) == ("L", (224, 224))
        levels = np.asarray(picture)
    assert (
        levels[::8, ::8].tolist() == to_pixels(images[1], contrast_window(images))[:, :, 0].tolist()
    )
    assert (tmp_path / "map_003.png").exists()


def test_a_colour_picture_is_written_in_colour(tmp_path):
    pixels = to_pixels(noise(3, 5, 4), Window(-2, 2))
    write_png(pixels, tmp_path / "colour.png")
    with Image.open(tmp_path / "colour.png") as picture:
        assert np.array_equal(np.asarray(picture), pixels)


# --- the contact sheet ---------------------------------------------------------------------


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("n", [1, 4, 5, 32, 64, 128, 256])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 64, 40), (1, 6, 6)])
def test_tiles_are_large_apart_and_on_the_page(n, shape, paired):
    starts = noise(n, *shape) if paired else None
    sheet = sheet_of(n, shape, starts=starts)
    width, height = sheet.size
    taken = np.zeros((height, width), int)
    for tile in sheet.tiles:
        h, w = tile.picture.shape[:2]
        assert tile.x + max(w, sheet.cell) <= width
        taken[tile.y : tile.y + h + 34, tile.x : tile.x + sheet.cell] += 1
        assert max(h, w) >= 64
    assert taken.max() == 1
    assert width <= 1800
    assert [tile.map for tile in sheet.tiles] == list(range(n))


def test_fewer_maps_are_drawn_larger():
    zooms = [sheet_of(n).zoom for n in (1, 4, 64, 256)]
    assert zooms == [16, 8, 4, 3]


def test_captions_hold_number_activation_verdict_and_bound():
    verdicts = ["found", "weak", "silent", "dead", "unfinished"]
    bounds = np.array([9.0, 9.0, 0.1234, -0.5, np.nan])
    sheet = contact_sheet(
        noise(5, 1, 8, 8),
        [2, 3, 5, 7, 11],
        verdicts,
        [12.3456, 1e-5, 0, 0, 3],
        title="",
        bounds=bounds,
    )
    captions = [(t.map, t.value, t.verdict, t.note) for t in sheet.tiles]
    assert captions == [
        (2, "12.35", "found", ""),
        (3, "1e−5", "weak", ""),
        (5, "0.00", "silent", "≤ 0.12"),
        (7, "0.00", "dead", "≤ −0.5"),
        (11, "3.00", "unfinished", ""),
    ]
    signs = [tile.sign for tile in sheet.tiles]
    assert len(set(signs)) == 5  # told apart without colour
    assert sheet.legend == "● 1 found   ▲ 1 unfinished   ○ 1 weak   – 1 silent   × 1 dead"


def test_only_verdicts_other_than_found_are_written_under_a_picture():
    """And take room only where there are some."""
    figure = draw_contact_sheet(sheet_of(5, verdicts=list(VERDICTS)))
    texts = [t.get_text() for t in figure.axes[0].get_children() if isinstance(t, Text)]
    written = [word for word in VERDICTS if f"{SIGNS[word][0]} {word}" in texts]
    assert written == [word for word in VERDICTS if word != "found"]
    assert sheet_of(5).size[1] < sheet_of(5, verdicts=["found"] * 4 + ["weak"]).size[1]


def test_every_verdict_has_a_sign():
    assert set(SIGNS) == set(VERDICTS)


def test_the_small_print_explains_the_verdicts_that_occur():
    text = " ".join(sheet_of(2, verdicts=["found", "weak"]).rule)
    assert "weak: a real image excites the map more." in text
    assert "dead" not in text
    assert "≤" not in text


def test_start_stands_left_of_its_oip():
    starts = noise(2, 1, 28, 28)[::-1]
    sheet = sheet_of(2, starts=starts)
    picture = sheet.tiles[0].picture
    wide = 28 * sheet.zoom
    assert np.array_equal(picture[:, :wide], to_pixels(starts[0], sheet.window, sheet.zoom))
    oip = to_pixels(noise(2, 1, 28, 28)[0], sheet.window, sheet.zoom)
    assert np.array_equal(picture[:, -wide:], oip)
    assert "Left: start image, right: OIP." in " ".join(sheet.rule)


def test_drawing_puts_every_pixel_where_the_data_say():
    sheet = sheet_of(9, (3, 12, 12))
    page = rendered(draw_contact_sheet(sheet))
    assert page.shape[:2] == sheet.size[::-1]
    for tile in sheet.tiles:
        h, w = tile.picture.shape[:2]
        assert np.array_equal(page[tile.y : tile.y + h, tile.x : tile.x + w], tile.picture)


def test_silent_and_dead_pictures_are_framed_and_dead_ones_struck_through():
    flat = np.zeros((3, 1, 28, 28))
    sheet = contact_sheet(flat, range(3), ["found", "silent", "dead"], [1, 0, 0], title="")
    page = rendered(draw_contact_sheet(sheet)).astype(int)
    marks = []
    for tile in sheet.tiles:
        h, w = tile.picture.shape[:2]
        above = page[tile.y - 5 : tile.y - 2, tile.x : tile.x + w].min(axis=(0, 2))
        inside = page[tile.y : tile.y + h, tile.x : tile.x + w] != tile.picture
        marks.append(((above < 200).mean(), inside.any()))
    (found, _), (silent, _), (dead, _) = marks
    assert found == 0
    assert 0.3 < silent < 0.7  # dashed
    assert dead == 1
    assert [struck for _, struck in marks] == [False, False, True]


@pytest.mark.parametrize("n", [1, 5, 128])
def test_no_text_leaves_the_page_or_runs_into_another(n):
    verdicts = [VERDICTS[i % 5] for i in range(n)]
    bounds = np.full(n, -0.00123)
    subtitle = "mean activation, standardized images, up to 256 steps of 0.2, " * 2
    sheet = sheet_of(n, verdicts=verdicts, bounds=bounds, subtitle=subtitle)
    figure = draw_contact_sheet(sheet)
    assert_texts_are_apart(figure)


def assert_texts_are_apart(figure) -> None:
    canvas = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    texts = [t for t in figure.axes[0].get_children() if isinstance(t, Text) and t.get_text()]
    boxes = np.array([t.get_window_extent(renderer).extents for t in texts])
    width, height = canvas.get_width_height()
    assert boxes[:, :2].min() > 10
    assert boxes[:, 2].max() < width - 10
    assert boxes[:, 3].max() < height - 10
    boxes += (0, 3, 0, -3)  # the room above and below letters may touch
    apart = (boxes[:, None, :2] >= boxes[None, :, 2:]).any(-1)
    apart |= apart.T | np.eye(len(boxes), dtype=bool)
    assert apart.all(), [(texts[i].get_text(), texts[j].get_text()) for i, j in np.argwhere(~apart)]


def test_a_users_matplotlib_settings_change_nothing():
    sheet = sheet_of(2)
    pictures = []
    wild = {
        "image.origin": "lower",
        "text.usetex": True,
        "savefig.bbox": "tight",
        "savefig.dpi": 37,
        "font.family": "serif",
        "axes.grid": True,
    }
    for settings in ({}, wild):
        buffer = io.BytesIO()
        with mpl.rc_context(settings):
            write_figure(lambda: draw_contact_sheet(sheet), buffer)
        pictures.append(buffer.getvalue())
    assert pictures[0] == pictures[1]


def test_a_title_with_dollar_signs_is_drawn_as_it_is():
    strip = evolution(noise(1, 8, 8), noise(1, 8, 8), np.array([0.0, 1.0]), title="cost_$x^{$")
    assert rendered(draw_evolution(strip)).std() > 0


# --- numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.0], ["0.000"]),
        ([2.34567, -0.5], ["2.346", "−0.500"]),
        ([1234.56, 1.0], ["1235", "1"]),
        ([0.0345678], ["0.03457"]),
        ([3e-7, 0.0], ["3e−7", "0e0"]),
        ([2e9], ["2e9"]),
        ([np.nan, 1.0], ["nan", "1.000"]),
    ],
)
def test_numbers_keep_four_digits_of_the_largest(values, texts):
    assert format_values(values) == texts


# --- the evolution strip -------------------------------------------------------------------


def strip_of(history, steps=(), **extra):
    snapshots = noise(len(steps), 1, 28, 28)
    return evolution(
        noise(1, 28, 28),
        -noise(1, 28, 28),
        np.array(history, np.float32),
        title="net · map 3",
        snapshot_steps=np.array(steps),
        snapshots=snapshots,
        **extra,
    )


def test_strip_runs_from_start_over_the_snapshots_in_between_to_the_oip():
    history = [0, 1, 2, 3, 5, 4, 4, np.nan, np.nan]
    strip = strip_of(history, steps=(0, 1, 2, 4, 6))
    shown = [(f.step, f.label, f.value) for f in strip.frames]
    assert shown == [
        (0, "start", "0.000"),
        (1, "step 1", "1.000"),
        (2, "step 2", "2.000"),
        (4, "OIP", "5.000"),
    ]
    zoomed = to_pixels(noise(5, 1, 28, 28)[2], strip.window, 4)
    assert np.array_equal(strip.frames[2].picture, zoomed)
    assert strip.curve.tolist() == [0, 1, 2, 3, 5, 4, 4]


def test_every_picture_stands_above_its_step_on_the_shared_axis():
    strip = strip_of([*range(65), *[60] * 20], steps=(1, 2, 4, 8, 16, 32))
    for frame in strip.frames:
        assert strip.curve_x[frame.step] == frame.x + frame.picture.shape[1] / 2
    assert (np.diff(strip.curve_x) > 0).all()
    assert strip.curve_x[-1] < strip.size[0]


def test_snapshots_may_come_in_any_order():
    strip = strip_of(range(10), steps=(4, 1))
    assert [f.step for f in strip.frames] == [0, 1, 4, 9]


def test_an_ascent_that_never_bettered_its_start_shows_the_start_alone():
    strip = strip_of([0, 0, 0, np.nan], steps=(1, 2), verdict="dead")
    assert [f.label for f in strip.frames] == ["start, never bettered"]
    assert len(strip.curve_x) == 3
    assert rendered(draw_evolution(strip)).shape[:2] == strip.size[::-1]


def test_a_history_without_a_value_is_still_drawn():
    assert rendered(draw_evolution(strip_of([np.nan, np.nan]))).std() > 0


@pytest.mark.parametrize("steps", [(), (1, 2, 4, 8, 16, 32)])
def test_strip_is_drawn_crisply_and_without_collisions(steps):
    curve = -2 + 4 * np.arange(65) / 64
    strip = strip_of(curve, steps, real=1.0, objective="preactivation", note="converged")
    figure = draw_evolution(strip)
    page = rendered(figure)
    for frame in strip.frames:
        h, w = frame.picture.shape[:2]
        x = int(frame.x)
        assert np.array_equal(page[112 : 112 + h, x : x + w], frame.picture)
    texts = {t.get_text() for t in figure.axes[0].get_children() if isinstance(t, Text)}
    assert {"best real image", "preactivation", "step", "64"} <= texts
    assert_texts_are_apart(figure)


# --- show ----------------------------------------------------------------------------------


def test_without_a_window_show_leaves_pyplot_alone():
    from matplotlib import pyplot

    figure = show(lambda figure: draw_contact_sheet(sheet_of(1), figure))
    assert rendered(figure).shape[1] == 720
    assert pyplot.get_fignums() == []


def test_with_an_interactive_backend_show_opens_a_pyplot_figure(monkeypatch):
    from matplotlib import pyplot

    monkeypatch.setattr(mpl, "get_backend", lambda: "QtAgg")
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.extend(pyplot.get_fignums()))
    figure = show(lambda figure: draw_contact_sheet(sheet_of(1), figure))
    try:
        assert shown == [figure.number]
    finally:
        pyplot.close(figure)


# --- signals -------------------------------------------------------------------------------


def test_a_signal_is_a_line_that_stands_where_its_samples_are():
    signal = np.array([[[0.0, 0.0, 0.0, 0.0, 9.0, 9.0, 9.0, 9.0]]])
    picture = picture_of(signal, Window(-10.0, 10.0), 112)
    assert picture.shape == (84, 168, 3)
    dark = picture.mean(axis=2) < 120
    rows = [np.flatnonzero(dark[:, x]).mean() for x in (20, 140)]
    heights = [3 + (10 - value) / 20 * (84 - 6) for value in (0, 9)]
    assert np.abs(np.array(rows) + 0.5 - heights).max() <= 1
    assert dark[:, 73:95].any(axis=1).sum() > 30  # the way up is drawn, not left out


def test_a_peak_of_one_sample_among_many_is_seen():
    signal = np.zeros((1, 1, 20000))
    signal[0, 0, 12345] = 5.0
    picture = picture_of(signal, window_of(signal[None]), 112).mean(axis=2)
    assert picture[5:20, 103].max() < 200
    assert picture[5:20, 90].min() > 200


def test_channels_have_lines_of_their_own_colours_and_many_have_rows():
    few = np.linspace(-1, 1, 3).reshape(3, 1, 1).repeat(50, axis=2)
    picture = picture_of(few, Window(-1.05, 1.05), 112)
    for channel, ink in enumerate([*LINES][:3]):
        there = picture[:, 80].astype(int) - colour(ink)
        row = int(np.abs(there).sum(axis=1).argmin())
        level = 3 + (1.05 - few[channel, 0, 0]) / 2.1 * (84 - 6)
        assert abs(row + 0.5 - level) <= 1
    many = np.linspace(-1, 1, 12).reshape(12, 1, 1).repeat(500, axis=2)
    picture = picture_of(many, Window(-1.0, 1.0), 112)
    assert picture.shape == (84, 168, 3)
    assert picture[::7, 50, 0].tolist() == np.rint(np.linspace(0, 255, 12)).tolist()


def test_sheets_and_strips_of_signals_say_what_they_show():
    lines = sheet_of(4, (2, 1, 90), starts=noise(4, 2, 1, 90))
    text = " ".join(lines.rule)
    assert "a hair line at 0. Channels 0 to 1: black, rust." in text
    assert "percentile" not in text
    mean = noise(4, 2, 1, 90).astype(np.float64).mean()
    assert lines.window.high - mean == pytest.approx(np.abs(noise(4, 2, 1, 90) - mean).max())
    assert not lines.grey
    rows = sheet_of(4, (12, 1, 90))
    assert rows.grey
    assert "A row for each of 12 channels." in " ".join(rows.rule)
    assert rendered(draw_contact_sheet(lines)).shape[:2] == lines.size[::-1]
    strip = evolution(*noise(2, 1, 1, 90), np.array([0.0, 1.0, 3.0]), title="map 0")
    assert strip.frames[0].picture.shape == (84, 168, 3)
    assert rendered(draw_evolution(strip)).shape[:2] == strip.size[::-1]
