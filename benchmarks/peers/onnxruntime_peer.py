"""ONNX Runtime: the ascent step, gradient by hand, as an ONNX graph; the host loops over it.

The graph is `by_hand` in ONNX operators, channels first as ONNX Runtime wants it. The target
maps' own kernels are constants of the graph, so a graph serves one batch. Both of two ways to
use two threads are offered: inside the operators, or over the images.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from task import SIZE, THREADS, Floats, Task

from pyoip.stack import Stack

from .by_hand import Plan, plan
from .variant import Variant, batches, in_threads

Session = onnxruntime.InferenceSession


class Graph:
    """ONNX nodes being put together; values are handed on by name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, value: object, dtype: type = np.float32) -> str:
        array = np.ascontiguousarray(value, dtype)
        name = f"c{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(array.reshape(np.shape(value)), name)
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def shaped(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, self.constant(shape, np.int64))

    def mean(self, x: str) -> str:
        return self.op("ReduceMean", x, self.constant([1, 2, 3], np.int64), keepdims=1)

    def session(self, shape: tuple[int, ...], end: str, threads: int) -> Session:
        """The graph from "v", of a shape, to `end`."""
        pixels = helper.make_tensor_value_info("v", TensorProto.FLOAT, shape)
        out = helper.make_tensor_value_info(end, TensorProto.FLOAT, None)
        graph = helper.make_graph(
            self.nodes, "ascent", [pixels], [out], list(self.constants.values())
        )
        opset = [helper.make_opsetid("", 18)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        return open_session(model, threads)


def open_session(model: onnx.ModelProto, threads: int) -> Session:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


class Step:
    """Writes steps of the ascent of one batch into a graph."""

    def __init__(self, constants: Plan, shape: tuple[int, ...]) -> None:
        self.g, self.plan, self.shape = Graph(), constants, shape
        g, own = self.g, constants.target
        count, self.channels = own.shape[:2]
        kernels = own.reshape(count, self.channels, 3, 3)
        self.own = g.constant(kernels)
        flipped = kernels[:, :, ::-1, ::-1].reshape(count * self.channels, 1, 3, 3)
        self.own_back = g.constant(flipped)
        self.own_bias = g.constant(constants.target_bias)
        self.zero = g.constant(0.0)
        if constants.first is not None:
            first = constants.first.T.reshape(-1, 1, 4, 4)
            self.first, self.first_bias = g.constant(first), g.constant(constants.first_bias)
            self.maps = len(first) // 4
        self.middle = [
            (
                g.constant(weight),
                g.constant(bias),
                g.constant(weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)),
            )
            for weight, bias in constants.middle
        ]

    def add(self, x: str) -> str:
        """One step: name of the image before → after."""
        g, (_, _, height, width) = self.g, self.shape
        side = self.plan.seen[0]
        seen = x
        if (side, side) != (height, width):
            ends = [g.constant(v, np.int64) for v in ([0, 0], [side, side], [2, 3])]
            seen = g.op("Slice", x, *ends)
        grad = self._gradient(seen)
        if (side, side) != (height, width):
            edges = [0, 0, 0, 0, 0, 0, height - side, width - side]
            grad = g.op("Pad", grad, g.constant(edges, np.int64))
        return self._update(x, grad)

    def _gradient(self, x: str) -> str:
        g = self.g
        if self.plan.first is None:
            return self._target(x)
        p, first = self._first(x)
        hits = []
        for weight, bias, _ in self.middle:
            z = g.op("Conv", p, weight, bias)
            best, place = g.op("MaxPool", z, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
            p = g.op("Relu", best)
            hits.append((p, place))
        d = self._target(p)
        for (_, _, back), (alive, place) in zip(self.middle[::-1], hits[::-1], strict=True):
            routed = g.op("Where", g.op("Greater", alive, self.zero), d, self.zero)
            dz = g.op("MaxUnpool", routed, place, kernel_shape=[2, 2], strides=[2, 2])
            d = g.op("Conv", dz, back, pads=[2, 2, 2, 2])
        side = self.plan.seen[1]
        d = g.shaped(d, -1, 1, self.maps, side, side)
        routed = g.shaped(g.op("Where", first, d, self.zero), -1, 4 * self.maps, side, side)
        return g.op("ConvTranspose", routed, self.first, strides=[2, 2])

    def _first(self, x: str) -> tuple[str, str]:
        """Pooled values, and (B, 4, maps, p, p): where they came from."""
        g, side = self.g, self.plan.seen[1]
        z = g.op("Conv", x, self.first, self.first_bias, strides=[2, 2])
        z = g.shaped(z, -1, 4, self.maps, side, side)
        best = g.op("ReduceMax", z, g.constant([1], np.int64), keepdims=1)
        p = g.op("Relu", best)
        # p instead of the maximum: nothing equals it where ReLU is off, but for an exact zero
        return g.shaped(p, -1, self.maps, side, side), g.op("Equal", z, p)

    def _target(self, p: str) -> str:
        """Every image's own map as one grouped convolution, and its adjoint."""
        g, count, side = self.g, len(self.plan.target), self.plan.seen[-1]
        flat = g.shaped(p, 1, count * self.channels, side, side)
        z = g.op("Conv", flat, self.own, self.own_bias, group=count)
        share = g.constant(1.0 / (side - 2) ** 2)
        mask = g.op("Where", g.op("Greater", z, self.zero), share, self.zero)
        d = g.op("Conv", mask, self.own_back, group=count, pads=[2, 2, 2, 2])
        return g.shaped(d, count, self.channels, side, side)

    def _update(self, x: str, grad: str) -> str:
        g = self.g
        rms = g.op("Sqrt", g.mean(g.op("Mul", grad, grad)))
        length = g.op("Div", g.constant(SIZE), g.op("Add", rms, g.constant(1e-7)))
        x = g.op("Add", x, g.op("Mul", grad, length))
        x = g.op("Sub", x, g.mean(x))
        return g.op("Div", x, g.op("Sqrt", g.mean(g.op("Mul", x, x))))


class Ascender:
    """Ascents of a task, `at_once` images at a time.

    `workers` parts are computed at the same time, by 2 / workers threads each.
    """

    def __init__(self, task: Task, at_once: int, workers: int, unroll: int = 1) -> None:
        self.workers, self.unroll = workers, unroll
        parts = [task.part(i, at_once) for i in range(0, len(task.starts), at_once)]
        self.parts = [(part.starts, self._steps(part)) for part in parts]

    def _steps(self, part: Task) -> Session:
        steps, x = Step(plan(part), part.starts.shape), "v"
        for _ in range(self.unroll):
            x = steps.add(x)
        return steps.g.session(part.starts.shape, x, THREADS // self.workers)

    def __call__(self, steps: int) -> Floats:
        calls = steps // self.unroll
        climb = lambda part: self._climb(*part, calls)  # noqa: E731
        return np.concatenate(in_threads(self.workers, climb, self.parts))

    @staticmethod
    def _climb(starts: Floats, session: Session, calls: int) -> Floats:
        """Two buffers that take turns as input and output, bound once each way."""
        images = starts.copy(), starts.copy()  # an OrtValue borrows the memory it is made from
        buffers = [onnxruntime.OrtValue.ortvalue_from_numpy(x) for x in images]
        turns = []
        for here, there in (buffers, buffers[::-1]):
            turn = session.io_binding()
            turn.bind_ortvalue_input("v", here)
            turn.bind_ortvalue_output(session.get_outputs()[0].name, there)
            turns.append(turn)
        for call in range(calls):
            session.run_with_iobinding(turns[call % 2])
        return images[calls % 2]


def ascenders(task: Task) -> Iterator[Variant]:
    """Threads inside the operators or over images; several steps in one graph for one image."""
    count = len(task.starts)
    if count == 1:
        for unroll in (1, 10):
            run = Ascender(task, 1, 1, unroll)
            yield Variant(f"graph of {unroll} steps", run, unroll)
        return
    for size, workers in ((64, 1), (32, THREADS), (16, THREADS), (8, THREADS)):
        if size * workers <= count:
            run = Ascender(task, size, workers)
            yield Variant(f"{size} at once, workers: {workers}", run)


class Scorer:
    """Scores of all maps, `at_once` images at a time: the model cut at its layer, and a mean."""

    def __init__(self, stack: Stack, images: Floats, at_once: int, workers: int) -> None:
        g, x = Graph(), "v"
        for layer in stack.layers:
            x = g.op("Conv", x, g.constant(layer.weights), g.constant(layer.bias))
            x = g.op("Relu", x)
            if layer is not stack.layers[-1]:
                x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = g.op("ReduceMean", x, g.constant([2, 3], np.int64), keepdims=0)
        self.workers = workers
        self.model = g.session((None, *stack.input_shape), x, THREADS // workers)
        self.parts = [images[i : i + at_once] for i in range(0, len(images), at_once)]

    def __call__(self) -> Floats:
        def means(part: Floats) -> Floats:
            return self.model.run(None, {"v": part})[0]

        return np.concatenate(in_threads(self.workers, means, self.parts))


def scorers(stack: Stack, images: Floats) -> Iterator[Variant]:
    """Batch sizes, and both ways to use two threads."""
    for size in batches(len(images), (16, 64, 256, 1024)):
        for workers in {1, min(THREADS, len(images) // size)}:
            run = Scorer(stack, images, size, workers)
            yield Variant(f"{size} at once, workers: {workers}", run)
