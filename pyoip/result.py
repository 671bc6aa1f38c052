"""What an ascent found: images, verdicts and all that is needed to repeat or continue it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import Array, format_values, show, write_figure
from .engines import STOPS
from .errors import DataError, InvalidArgument, PyoipError
from .evolution import Evolution, draw_evolution, evolution
from .figures import ContactSheet, contact_sheet, draw_contact_sheet, map_pictures
from .fluctuations import Fluctuations
from .folder import Document, read_folder, write_folder
from .graph.scaling import to_layout
from .pictures import window_of
from .saved import ADDED, PLAIN, Runs, arrays_of, fields_of
from .settings import Settings
from .summary import VERDICTS, ascent_line, ranges, settings_line, steps_of, times, verdict_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


__all__ = ["STOPS", "VERDICTS", "Result", "Runs", "load_result"]


@dataclass(frozen=True, eq=False)
class Result:
    """The OIPs of a layer.

    Attributes
    ----------
    network, sha256 : str
        Name of the network and checksum of its model.
    layer, layer_name : int, str
        Conv layer, counted from 1, and its name.
    maps : ndarray of int64, (n,)
        Map numbers; entry i of every other array belongs to ``maps[i]``.
    images : ndarray of float32, (n, C, H, W)
        The OIPs.
    activations, preactivations : ndarray of float32, (n,)
        Mean of the map over its positions for that image, after and before the
        activation function.
    history : ndarray of float32, (n, steps + 1)
        Objective after 0, 1, … steps of the best ascent, NaN after its end.
    verdicts : tuple of str
        One of `VERDICTS` per map.
    starts : ndarray of float32, (n, C, H, W)
        Where the best ascents began: a start image, or the map's best image so far,
        kicked.
    origins : ndarray of float32, (n, C, H, W)
        The start images that it all began with.
    candidates : ndarray of int64, (n,)
        Their numbers in the pool; -1: your own start image.
    kicks : ndarray of int32, (n,)
        Round of kicks in which the best ascent began; 0: from the start image itself.
    bounds : ndarray of float64, (n,)
        Proven upper bound of the pre-activation over all admissible images; NaN where
        none was computed.
    real : ndarray of float32, (n,)
        Activation of the best real image under the same constraint; NaN where unknown.
    converged : ndarray of bool, (n,)
    woke : ndarray of int32, (n,)
        Step at which a silent start came alive; 0: alive from the start, -1: never.
    snapshot_steps, snapshots : ndarray, (S,) and (n, S, C, H, W)
        Images along the way.
    runs : Runs
    settings : Settings
    fluctuations : Fluctuations or None
        Of the candidates; None for your own start images.
    engine : str
    timing : mapping of str to float
        Seconds, by phase.
    version : str
        Of pyoip.
    scaling : str
        How images became what the network takes; see `pyoip.load`.
    layout : str
        Axes that the network itself takes, ``"NCHW"`` or ``"NHWC"``, of signals ``"NCW"`` or
        ``"NWC"``.
    interrupted : bool
        Ctrl-C ended the call: maps that were asked for may be missing, and of a silent one no proof
        was tried.
    """

    network: str
    sha256: str
    layer: int
    layer_name: str
    maps: Array
    images: Array
    activations: Array
    preactivations: Array
    history: Array
    verdicts: tuple[str, ...]
    starts: Array
    origins: Array
    candidates: Array
    kicks: Array
    bounds: Array
    real: Array
    converged: Array
    woke: Array
    snapshot_steps: Array
    snapshots: Array
    runs: Runs
    settings: Settings
    fluctuations: Fluctuations | None
    engine: str
    timing: Mapping[str, float]
    version: str
    scaling: str = ADDED["scaling"]
    layout: str = ADDED["layout"]
    interrupted: bool = False

    def __len__(self) -> int:
        """Count of maps."""
        return len(self.maps)

    @property
    def own_images(self) -> Array:
        """The OIPs with the network's own axes: (n, H, W, C) for NHWC, (n, C, L) for NCW."""
        return to_layout(self.images, self.layout)

    def counts(self) -> dict[str, int]:
        """Return how many maps got which verdict; verdicts that none got are left out."""
        return {v: self.verdicts.count(v) for v in VERDICTS if v in self.verdicts}

    def __str__(self) -> str:
        """Verdict counts, activations, steps and time as a small table."""
        steps = steps_of(self.history)
        table = verdict_table(
            self.maps,
            self.verdicts,
            self.activations,
            steps,
            self.bounds,
            interrupted=self.interrupted,
        )
        return "\n".join([self._headline(), *table, f"time: {times(self.timing)}"])

    def __repr__(self) -> str:
        """One line."""
        return f"<pyoip.Result: {self._headline()}>"

    def _headline(self) -> str:
        name = f"{self.network}, layer {self.layer} ({self.layer_name})"
        count = f"{len(self)} {'map' if len(self) == 1 else 'maps'}"
        end = ", interrupted" if self.interrupted else ""
        return f"{name}: {count}, engine {self.engine}{end}"

    def _title(self) -> str:
        return f"{self.network} · layer {self.layer} · {self.layer_name}"

    def contact_sheet(self, *, starts: bool = False) -> ContactSheet:
        """Return the data of the contact sheet; `starts` puts each start image beside its OIP."""
        return contact_sheet(
            self.images,
            self.maps,
            self.verdicts,
            self.activations,
            title=self._title(),
            subtitle=settings_line(
                self.settings, self.engine, own_starts=self.fluctuations is None
            ),
            starts=self.origins if starts else None,
            bounds=self.bounds,
        )

    def evolution(self, map: int) -> Evolution:
        """Return the data of one map's evolution strip; see `show_evolution`."""
        i = self._index(map)
        note = ascent_line(
            candidate=int(self.candidates[i]),
            kicks=int(self.kicks[i]),
            converged=bool(self.converged[i]),
            steps=int(steps_of(self.history)[i]),
            woke=int(self.woke[i]),
            bound=float(self.bounds[i]),
            activation=format_values(self.activations[i : i + 1])[0],
        )
        return evolution(
            self.starts[i],
            self.images[i],
            self.history[i],
            title=f"{self._title()} · map {self.maps[i]}",
            verdict=self.verdicts[i],
            note=note,
            snapshot_steps=self.snapshot_steps,
            snapshots=self.snapshots[i],
            real=_number(float(self.real[i])),
            objective=self.settings.objective,
            kicked=bool(self.kicks[i]),
        )

    def show(self, *, starts: bool = False) -> Figure:
        """Show all OIPs on a contact sheet.

        Opens a window where matplotlib has an interactive backend; in a notebook the
        returned figure is displayed.

        Parameters
        ----------
        starts : bool
            Put each start image to the left of its OIP (default False).

        Returns
        -------
        matplotlib.figure.Figure
        """
        return show(partial(self._draw_sheet, starts))

    def show_evolution(self, map: int) -> Figure:
        """Show how one OIP came about: start image, snapshots, OIP, and the activation curve.

        Parameters
        ----------
        map : int
            Map number. Images between start and OIP appear if the ascent was told to
            keep some (``snapshots=(1, 2, 4, …)``).

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        InvalidArgument
            The map is not part of this result.
        """
        return show(partial(self._draw_evolution, map))

    def _index(self, map: int) -> int:
        at = np.flatnonzero(self.maps == map)
        if not at.size:
            raise InvalidArgument(
                f"map={map!r}: must be one of this result's maps, {ranges(self.maps)}"
            )
        return int(at[0])

    def _repr_png_(self) -> bytes:  # the contact sheet, for notebooks
        buffer = BytesIO()
        write_figure(partial(self._draw_sheet, False), buffer)
        return buffer.getvalue()

    def as_dict(self) -> Document:
        """Return all but the arrays of images as plain data, ready for JSON (NaN becomes None)."""
        plain = {name: getattr(self, name) for name in (*PLAIN, *ADDED)}
        fluctuations = None if self.fluctuations is None else asdict(self.fluctuations)
        return {
            **plain,
            "interrupted": self.interrupted,
            "settings": asdict(self.settings),
            "fluctuations": fluctuations,
            "timing": dict(self.timing),
            "counts": self.counts(),
            "maps": self._maps_as_dicts(),
        }

    def _maps_as_dicts(self) -> list[Document]:
        columns = {
            "map": self.maps,
            "verdict": self.verdicts,
            "activation": self.activations,
            "preactivation": self.preactivations,
            "real": self.real,
            "bound": self.bounds,
            "candidate": self.candidates,
            "kicks": self.kicks,
            "steps": steps_of(self.history),
            "converged": self.converged,
            "woke": self.woke,
        }
        rows = zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True)
        return [dict(zip(columns, map(_number, row), strict=True)) for row in rows]

    def save(
        self, directory: str | os.PathLike[str], *, starts: bool = False, overwrite: bool = False
    ) -> None:
        """Save pictures, arrays and settings in a folder, all or nothing.

        ``map_000.png`` … (one per map, all in one grey scale), ``contact_sheet.png``,
        ``evolution_000.png`` … (where snapshots were kept), ``oips.npz`` (all arrays)
        and ``result.json`` (everything else). `pyoip.load_result` reads it back.

        Parameters
        ----------
        directory : path
            New, empty, or holding an earlier result of the same layer, which is replaced
            if it has no further maps.
        starts : bool
            Put the start images on the contact sheet (default False).
        overwrite : bool
            Replace any earlier result (default False).
            A folder that holds anything else is always refused.

        Raises
        ------
        DataError
            The folder cannot be used, or the disk is full; nothing was changed then.
        """
        window = window_of(self.images)
        document = {**self.as_dict(), "contrast": {"black": window.low, "white": window.high}}
        pictures = self._pictures(starts=starts)
        write_folder(directory, document, arrays_of(self), pictures, overwrite=overwrite)

    def _pictures(self, *, starts: bool) -> dict[str, Callable[[Path], None]]:
        pictures = map_pictures(self.images, self.maps)
        for number in self.maps.tolist() if len(self.snapshot_steps) else ():
            draw = partial(self._draw_evolution, number)
            pictures[f"evolution_{number:03d}.png"] = partial(write_figure, draw)
        if len(self):
            draw = partial(self._draw_sheet, starts)
            pictures["contact_sheet.png"] = partial(write_figure, draw)
        return pictures

    def _draw_sheet(self, starts: bool, figure: Figure | None = None) -> Figure:
        return draw_contact_sheet(self.contact_sheet(starts=starts), figure)

    def _draw_evolution(self, number: int, figure: Figure | None = None) -> Figure:
        return draw_evolution(self.evolution(number), figure)


def load_result(directory: str | os.PathLike[str]) -> Result:
    """Read a result that `Result.save` wrote; its arrays are the same to the last bit.

    Parameters
    ----------
    directory : path

    Returns
    -------
    Result

    Raises
    ------
    DataError
        No such folder, not a saved result, damaged, or written by a newer pyoip.
    """
    document, arrays = read_folder(directory)
    try:
        return Result(**fields_of(document, arrays))
    except (KeyError, TypeError, ValueError, AttributeError, PyoipError) as error:
        raise DataError(f"{Path(directory)}: damaged: {error!s} is missing or wrong") from error


def _number(value: Any) -> Any:
    """The value itself, None for NaN and infinity, which JSON does not know."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
