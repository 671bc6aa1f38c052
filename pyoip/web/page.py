"""A page that climbs in the browser: the graphs of a network's ascents, and what shows them.

The page is plain HTML, CSS and JavaScript from the folder ``site``. It computes with
onnxruntime-web; the graphs are those of `pyoip.gradient.step`, and what stands around them is
repeated in ``site/ascent.js`` and ``site/fluctuations.js``.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidArgument, UnsupportedLayer
from ..fluctuations import Fluctuations
from ..gradient import Place, ascent_model, locate, score_model
from ..network import Layer, Network, load
from ..settings import Constraint, Objective, Settings, as_constraint, require
from .publish import check_site, publish
from .runtime import PUBLIC, find_runtime

SITE = Path(__file__).with_name("site")
"""Folder of the page's own files."""

_TITLE = "<title>pyoip</title>"
_EVERY_STEP = 1  # of `Settings.smooth`: makes the blur an input of the graph


@dataclass(frozen=True)
class Page:
    """What `export_web` wrote.

    Attributes
    ----------
    folder : Path
    network : str
    layers : tuple of int
        Numbers of the layers that can be climbed.
    missing : dict of int to str
        Layers that were left out, and why.
    size : int
        Of all files, in bytes.
    """

    folder: Path
    network: str
    layers: tuple[int, ...]
    missing: dict[int, str]
    size: int

    def __str__(self) -> str:
        lines = [
            f"{self.network}: {len(self.layers)} layers, {self.size / 1e6:.1f} MB in {self.folder}",
            *(f"left out: {reason}" for reason in self.missing.values()),
            f"to see it: python -m http.server --directory {self.folder}, then http://localhost:8000",
        ]
        return "\n".join(lines)


def export_web(
    model: Any,
    directory: str | os.PathLike[str],
    *,
    layers: Iterable[int | str] | int | str | None = None,
    runtime: str | os.PathLike[str] | None = None,
    title: str | None = None,
    objective: Objective = "activation",
    constraint: Constraint | str = "standardize",
    fluctuations: Fluctuations | None = None,
    overwrite: bool = False,
) -> Page:
    """Write a page on which a network's maps can be climbed in any browser.

    The folder is complete: put it on any web server, or run ``python -m http.server`` in it. All
    is computed in the browser, nothing of the network is sent anywhere. A start image of a seed
    and number is the one of `pyoip.start_images`.

    Parameters
    ----------
    model : str, Path, onnx.ModelProto, torch.nn.Module or Network
        See `pyoip.load`. The page takes images of (C, H, W), as large as the network's.
    directory : path
        Missing, empty, or holding an earlier page, which is replaced.
    layers : int, str, or several, optional
        Numbers or names; the default takes all layers that a gradient can be derived for.
    runtime : path, optional
        Folder of the npm package onnxruntime-web, or its ``dist``: 14 MB are copied, and the page
        works without a network. Without it the page loads onnxruntime-web from cdn.jsdelivr.net.
    title : str, optional
        Headline; the default is the network's name.
    objective : {"activation", "preactivation"}
        What is raised.
    constraint : {"standardize", "clip"} or Constraint
        What keeps images comparable.
    fluctuations : Fluctuations, optional
        Length scales and weights that the page begins with.
    overwrite : bool
        Write the page among other files too; those of the same names are replaced, all others
        stay (default False).

    Returns
    -------
    Page

    Raises
    ------
    ModelError
        See `pyoip.load`.
    InvalidArgument
        No such layer, or an argument outside its range.
    UnsupportedLayer
        A layer that was asked for, or every layer, has no gradient.
    DataError
        The folder holds something else, cannot be written, or `runtime` is not onnxruntime-web;
        what was there before is as it was.

    Examples
    --------
    >>> import pyoip
    >>> pyoip.export_web("mnist", "page", layers=[1, 2]).layers
    (1, 2)
    """
    network = load(model)
    if "H" not in network.layout:
        raise InvalidArgument(
            f"{network.name}: takes signals ({network.layout}); the page shows networks for images"
        )
    headline = network.name if title is None else title
    require(isinstance(headline, str) and headline.strip() != "", "title", title, "a text")
    settings = Settings(
        objective=objective, constraint=as_constraint(constraint), smooth=_EVERY_STEP
    )
    fluctuations = Fluctuations() if fluctuations is None else fluctuations
    computes = PUBLIC if runtime is None else find_runtime(Path(runtime))
    path = Path(directory)
    check_site(path, overwrite=overwrite)
    graphs, described, missing = _graphs(network, layers, settings)
    document = {
        "title": headline,
        **_facts(network, settings, fluctuations),
        "runtime": {"script": computes.script, "wasm": computes.wasm, "version": computes.version},
        "layers": described,
        "missing": [{"number": n, "name": network.layer(n).name} for n in missing],
    }
    files = _site(headline) | graphs | computes.files()
    size = publish(path, files, document, overwrite=overwrite)
    numbers = tuple(int(layer["number"]) for layer in described)
    return Page(path, network.name, numbers, missing, size)


def _site(title: str) -> dict[str, bytes]:
    """Return the page's own files, the title written into the first."""
    files = {p.name: p.read_bytes() for p in sorted(SITE.iterdir()) if p.is_file()}
    index = files["index.html"].decode()
    files["index.html"] = index.replace(_TITLE, f"<title>{html.escape(title)}</title>").encode()
    return files


# --- layers ------------------------------------------------------------------------------------


def _chosen(network: Network, layers: Iterable[int | str] | int | str | None) -> list[Layer]:
    if layers is None:
        return list(network.layers)
    specs = [layers] if isinstance(layers, int | str) else list(layers)
    found = {layer.number: layer for layer in (network.layer(spec) for spec in specs)}
    if not found:
        raise InvalidArgument("layers=(): must name one layer or more, or be None for all")
    return [found[number] for number in sorted(found)]


def _graphs(
    network: Network, layers: Iterable[int | str] | int | str | None, settings: Settings
) -> tuple[dict[str, bytes], list[dict[str, Any]], dict[int, str]]:
    """Return files, what the page is to know of each layer, and why others are missing."""
    files: dict[str, bytes] = {}
    described = []
    missing = {}
    refused: UnsupportedLayer | None = None
    for layer in _chosen(network, layers):
        try:
            place = locate(network, layer.number)
            step = ascent_model(place, settings).SerializeToString(deterministic=True)
            score = score_model(place, settings.objective).SerializeToString(deterministic=True)
        except UnsupportedLayer as error:
            if layers is not None:
                raise
            refused = refused or error
            missing[layer.number] = str(error)
            continue
        names = (f"model/layer{layer.number}.onnx", f"model/layer{layer.number}_score.onnx")
        files |= {names[0]: step, names[1]: score}
        described.append(_layer_document(place, layer, settings, names))
    if refused is not None and not described:
        raise refused
    return files, described, missing


def _layer_document(
    place: Place, layer: Layer, settings: Settings, names: tuple[str, str]
) -> dict[str, Any]:
    rule = settings.constraint
    known = rule.kind == "standardize" or (rule.low, rule.high) == (0.0, 1.0)
    maxima = place.network.real_maxima(layer.number, rule.kind, settings.objective)
    return {
        "number": layer.number,
        "name": layer.name,
        "maps": layer.maps,
        "output_shape": layer.output_shape,
        "receptive_field": layer.receptive_field,
        "follows": layer.follows,
        "gates": place.gates,
        "step": names[0],
        "score": names[1],
        "real_maxima": None if maxima is None or not known else maxima.tolist(),
    }


def _facts(network: Network, settings: Settings, fluctuations: Fluctuations) -> dict[str, Any]:
    rule = settings.constraint
    names = ("objective", "steps", "step_size", "bold", "momentum", "patience", "tolerance")
    return {
        "network": network.name,
        "sha256": network.sha256,
        "dataset": network.metadata.get("pyoip.dataset"),
        "accuracy": network.metadata.get("pyoip.accuracy"),
        "input_shape": network.input_shape,
        "constraint": {"kind": rule.kind, "low": rule.low, "high": rule.high},
        "settings": {name: getattr(settings, name) for name in names} | {"smooth": 0},
        "fluctuations": {
            "scales": fluctuations.scales,
            "weights": fluctuations.weights,
            "smoothing": fluctuations.smoothing,
        },
    }
