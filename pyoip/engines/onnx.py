"""The engine for any ONNX network: derived graphs (`pyoip.gradient`) run by ONNX Runtime.

Images, velocities and gradients stay where the provider computes; a step hands out a few numbers
per image, by which `rules.Batch` decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .. import _cpu
from ..errors import EngineUnavailable, UnsupportedLayer
from ..fluctuations import default_threads
from ..gradient import (
    LANES,
    activation_model,
    ascent_model,
    gradient_model,
    locate,
    score_model,
    selection_model,
)
from ..graph.node import plain
from ..network import Network
from ..settings import Objective, Settings
from .base import (
    STOPS,
    Ascents,
    Floats,
    Progress,
    Targets,
    all_step_sizes,
    as_images,
    as_targets,
    report,
    untouched,
)
from .rules import Batch, Seen

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_ENDING = "ExecutionProvider"

_OPTIONS: dict[str, dict[str, str]] = {
    # The accuracy of float32, and the same algorithm on every run.
    "CUDAExecutionProvider": {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"},
}

BATCH_BYTES = 2**28  # of one batch's tensors, were all of them alive at once
BATCH_WORK = 2**31  # multiplications of one batch: some tenths of a second on two cores
MOST_IMAGES = 256  # of a batch


def describe() -> dict[str, str]:
    """Return the version of ONNX Runtime and its providers."""
    return {"ONNX Runtime": f"{onnxruntime.__version__} ({', '.join(providers())})"}


def providers() -> list[str]:
    """Return the short names of the providers at hand, ``"cpu"`` first."""
    names = [name.removesuffix(_ENDING).lower() for name in onnxruntime.get_available_providers()]
    return sorted(names, key=lambda name: (name != "cpu", name))


def provider_named(name: str | None) -> str:
    """Return ONNX Runtime's name of a provider; None asks for the fastest known one at hand.

    Raises
    ------
    EngineUnavailable
        This installation of ONNX Runtime has no such provider.
    """
    if name is None:
        name = "cuda" if "cuda" in providers() else "cpu"
    for known in onnxruntime.get_available_providers():
        if name.lower() in (known.lower(), known.removesuffix(_ENDING).lower()):
            return str(known)
    raise EngineUnavailable(
        f"engine='onnx:{name}': this ONNX Runtime has no such provider; must be one of "
        + ", ".join(f"'onnx:{name}'" for name in providers())
    )


def lanes(provider: str = PROVIDERS["cpu"]) -> int:
    """Return how many channels a provider computes at once; for others than the CPU's a guess."""
    try:
        wide = "avx512" in _cpu.info()["instruction_sets"]
    except ValueError:  # PYOIP_CPU_ISA names what is not there
        wide = False
    return 2 * LANES if wide and provider == PROVIDERS["cpu"] else LANES


class Runner:
    """One derived graph in ONNX Runtime, its images kept where the provider computes."""

    def __init__(self, model: Any, provider: str, threads: int, label: str) -> None:
        self._label = label
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        chosen = [(provider, _OPTIONS.get(provider, {}))]
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=chosen
            )
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise UnsupportedLayer(
                f"{label}: ONNX Runtime {onnxruntime.__version__} does not take its derived graph "
                f"({plain(error)}); update onnxruntime"
            ) from None
        if provider not in self._session.get_providers():
            raise EngineUnavailable(
                f"engine='onnx:{provider.removesuffix(_ENDING).lower()}': {provider} does not "
                "start here; look for its driver and libraries"
            )
        self.device = "cuda" if provider == PROVIDERS["cuda"] else "cpu"
        self._ranks = {o.name: len(o.shape) for o in self._session.get_outputs()}

    def put(self, array: NDArray[Any]) -> Any:
        """Return an array where the provider computes."""
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.device, 0)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run the graph on values that `put` returned; images stay, vectors come back."""
        binding = self._session.io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, value)
        for name, rank in self._ranks.items():
            binding.bind_output(name, self.device if rank > 2 else "cpu")
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise UnsupportedLayer(
                f"{self._label}: ONNX Runtime {onnxruntime.__version__} fails on its derived graph "
                f"({plain(error)})"
            ) from None
        values = dict(zip(self._ranks, binding.get_outputs(), strict=True))
        return {n: v if self._ranks[n] > 2 else v.numpy() for n, v in values.items()}


class OnnxEngine:
    """`Engine` for every layer whose graph can be differentiated.

    Parameters
    ----------
    network : Network
    layer : int
        Number of the layer.
    threads : int, optional
        Of the CPU provider; default all processors.
    provider : str, optional
        ``"cpu"``, ``"cuda"`` or another of ONNX Runtime's, without its ending; default CUDA
        where it is at hand.
    """

    def __init__(
        self,
        network: Network,
        layer: int,
        threads: int | None = None,
        provider: str | None = None,
    ) -> None:
        self._provider = provider_named(provider)
        self._threads = default_threads(threads)
        self._place = locate(network, layer, lanes(self._provider))
        self._runners: dict[tuple[Any, ...], Runner] = {}
        self.name = f"onnx:{self._provider.removesuffix(_ENDING).lower()}"
        self.input_shape = network.input_shape
        self.maps = network.layers[layer - 1].maps
        self.output_shape = network.layers[layer - 1].output_shape
        self.saturates = self._place.saturates
        # Fail now, not after the first candidates have been drawn.
        gradient_model(self._place, "activation")

    # --- one evaluation ------------------------------------------------------------------------

    def score(
        self, images: Floats, objective: Objective, progress: Progress | None = None
    ) -> Floats:
        """See `Engine.score`."""
        runner = self._runner(("score", objective), lambda: score_model(self._place, objective))
        return self._map(runner, "score", images, (self.maps,), progress)

    def activations(self, images: Floats, progress: Progress | None = None) -> Floats:
        """See `Engine.activations`."""
        runner = self._runner(("activations",), lambda: activation_model(self._place))
        return self._map(runner, "activation", images, self.output_shape, progress)

    def _map(
        self,
        runner: Runner,
        output: str,
        images: Floats,
        shape: tuple[int, ...],
        progress: Progress | None,
    ) -> Floats:
        """Run a graph of the images alone over all of them."""
        images = as_images(self.input_shape, images)
        out = np.empty((len(images), *shape), np.float32)
        for part in self._parts(len(images)):
            found = runner.run({"image": runner.put(images[part])})[output]
            out[part] = found if isinstance(found, np.ndarray) else found.numpy()
            report(progress, part.stop, len(images))
        return out

    def gradient(
        self, images: Floats, targets: Targets, objective: Objective
    ) -> tuple[Floats, Floats]:
        """See `Engine.gradient`."""
        images = as_images(self.input_shape, images)
        maps = as_targets(targets, len(images), self.maps).astype(np.int64)
        key = ("gradient", objective)
        runner = self._runner(key, lambda: gradient_model(self._place, objective))
        values = np.empty((len(images), 2), np.float32)
        gradients = np.empty_like(images)
        for part in self._parts(len(images)):
            found = runner.run({"image": runner.put(images[part]), "map": runner.put(maps[part])})
            values[part] = np.stack([found["activation"], found["preactivation"]], axis=1)
            gradients[part] = found["gradient"].numpy()
        return values, gradients

    # --- ascents -------------------------------------------------------------------------------

    def ascend(
        self,
        starts: Floats,
        targets: Targets,
        settings: Settings,
        progress: Progress | None = None,
        step_sizes: Floats | None = None,
    ) -> Ascents:
        """See `Engine.ascend`."""
        starts = as_images(self.input_shape, starts)
        maps = as_targets(targets, len(starts), self.maps).astype(np.int64)
        sizes = all_step_sizes(starts, settings, step_sizes)
        out = untouched(starts, settings)
        runner = self._ascent_runner(settings)
        interrupted = False
        try:
            for part in self._parts(len(starts)):
                rows = np.arange(part.start, part.stop)
                batch = Batch(out, rows, sizes[part], settings, gates=self._place.gates)
                for done in self._climb(runner, batch, starts[part], maps[part]):
                    report(progress, part.start + done, len(starts))
        except KeyboardInterrupt:
            interrupted = True
            unfinished = np.isnan(out.images).any(axis=(1, 2, 3))
            out.stops[unfinished] = STOPS.index("interrupted")
        return Ascents(**{**vars(out), "interrupted": interrupted})

    def _ascent_runner(self, settings: Settings) -> Runner:
        s = settings
        key = ("ascent", s.objective, s.constraint, s.momentum, s.method, s.smooth > 0)
        return self._runner(key, lambda: ascent_model(self._place, settings))

    def _climb(
        self, runner: Runner, batch: Batch, starts: Floats, maps: NDArray[np.int64]
    ) -> Iterator[int]:
        """Ascend a batch; yield how many of its ascents have ended."""
        s, out, count = batch.settings, batch.out, len(starts)
        select = self._runner(("select",), lambda: selection_model(self._place))
        image, nothing = runner.put(starts), runner.put(np.zeros_like(starts))
        held = {"image": image, "velocity": nothing, "gradient": nothing, "best": image}
        merits = np.full(count, -np.inf, np.float32)
        for t in range(s.steps + 1):
            size = batch.size if t else np.zeros(count)
            vectors: dict[str, NDArray[Any]] = {
                "step_size": size.astype(np.float32),
                "best_merit": merits,
                "map": maps,
            }
            if s.smooth:
                vectors["blur"] = np.array(float(t > 0 and t % s.smooth == 0), np.float32)
            put = {name: runner.put(vector) for name, vector in vectors.items()}
            found = runner.run({**held, **put})
            seen = Seen(*(found[n] for n in ("activation", "preactivation", "merit", "slope")))
            going = batch.see(t, seen)
            if t in s.snapshots:
                out.snapshots[batch.rows, s.snapshots.index(t)] = found["next_image"].numpy()
            merits = found["next_merit"]
            held = _current(found)
            if not going.all():
                ended = runner.put(np.flatnonzero(~going))
                best = select.run({**held, "index": ended})["next_best"].numpy()
                _finish(batch, t, ~going, best)
                on = np.flatnonzero(going)
                held = _current(select.run({**held, "index": runner.put(on)}))
                batch.keep(on)
                merits, maps = merits[on], maps[on]
                yield count - len(on)
            if not len(batch.rows):
                return

    # --- batches and sessions --------------------------------------------------------------------

    def _runner(self, key: tuple[Any, ...], make: Any) -> Runner:
        if key not in self._runners:
            label = self._place.label
            self._runners[key] = Runner(make(), self._provider, self._threads, label)
        return self._runners[key]

    def _parts(self, count: int) -> Iterable[slice]:
        """Cut `count` images into batches that a step is quick for and memory holds."""
        size, work = self._place.size, self._place.work
        gpu = 64 if self._provider == PROVIDERS["cuda"] else 1
        fits = min(gpu * BATCH_BYTES // (4 * size), gpu * BATCH_WORK // max(work, 1))
        most = max(1, min(fits, gpu * MOST_IMAGES))
        for first in range(0, count, most):
            yield slice(first, min(first + most, count))


def _current(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step made of the images, as the next one takes it."""
    return {n: found[f"next_{n}"] for n in ("image", "velocity", "gradient", "best")}


def _finish(batch: Batch, t: int, ended: NDArray[np.bool_], best: Floats) -> None:
    """Store the best images of ascents that have ended at step `t`."""
    rows, out = batch.rows[ended], batch.out
    out.images[rows] = best
    for i, step in enumerate(batch.settings.snapshots):
        if step > t:
            out.snapshots[rows, i] = best
