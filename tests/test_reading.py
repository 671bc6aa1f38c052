"""What is read off a graph before anything is computed: constants, branches, responses."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from problems import relative_error

import pyoip
from pyoip.engines.onnx import OnnxEngine
from pyoip.gradient import locate
from pyoip.graph.response import response

RNG = np.random.default_rng(11)
WEIGHTS = {
    "w": RNG.standard_normal((4, 1, 3, 3)).astype(np.float32),
    "v": RNG.standard_normal((3, 4, 1, 1)).astype(np.float32),
}


def _load(
    nodes: str, constants: dict[str, Any] | None = None, size: tuple[Any, ...] = (1, 1, 8, 9)
) -> pyoip.Network:
    given = {**WEIGHTS, **(constants or {})}
    graph = helper.make_graph(
        [parser.parse_node(line) for line in nodes.split(";")],
        "read",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in given.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return pyoip.load(model, input_shape=(1, 8, 9))


# --- where a map responds ------------------------------------------------------------------------


def _number(value: float) -> Any:
    return np.array(value, np.float32)


CLIPS = [
    ("m = Max(c, a); y = Min(m, b)", ("Max", "Min"), True),
    ("m = Min(b, c); y = Max(a, m)", ("Min", "Max"), True),
    ("m = Relu(c); y = Min(m, b)", ("Relu", "Min"), True),
    ("m = Relu(c); y = Clip(m, a, b)", ("Relu", "Clip"), True),
    ("y = Max(c, a)", ("Max",), True),
    ("p = MaxPool <kernel_shape = [2, 2]> (c); m = Max(p, a); y = Min(m, b)", ("Max", "Min"), True),
    ("m = Max(c, n); y = Min(m, b)", ("Max", "Min"), False),
    ("m = Relu(c); y = Max(m, b)", ("Relu", "Max"), False),
    ("m = Sigmoid(c); y = Min(m, b)", ("Sigmoid", "Min"), False),
    ("y = Clip(c, , b)", ("Clip",), False),
    ("m = Relu(c); y = Min(m, each)", ("Relu",), True),  # differs by position: no clip
]


@pytest.mark.parametrize(("nodes", "region", "gates"), CLIPS, ids=[nodes for nodes, *_ in CLIPS])
def test_a_clip_of_several_nodes_is_one_function(
    nodes: str, region: tuple[str, ...], gates: bool
) -> None:
    """A map's response runs through both limits; it sleeps where the function is 0 below 0."""
    limits = {"a": _number(0), "b": _number(6), "n": _number(-1), "each": np.ones((1, 1, 6, 7))}
    limits["each"] = limits["each"].astype(np.float32)
    network = _load(f"c = Conv(x, w); {nodes}; z = Conv(y, v)", limits)
    reply = response(network.graph, network.nodes[network.layers[0].node])
    assert tuple(node.op for node in reply.region) == region
    assert locate(network, 1).gates == gates


def test_the_upper_limit_of_a_spelt_out_clip_is_felt() -> None:
    """At ten times a start image every map is at its limit somewhere: a mean of a Max is more."""
    limits = {"a": _number(0), "b": _number(0.5)}
    nodes = "c = Conv(x, w); m = Max(c, a); y = Min(m, b); z = Conv(y, v)"
    images = 10 * pyoip.start_images(3, (1, 8, 9))
    engine = OnnxEngine(_load(nodes, limits), 1)
    clip = OnnxEngine(_load("c = Conv(x, w); y = Clip(c, a, b); z = Conv(y, v)", limits), 1)
    assert engine.score(images, "activation").max() <= 0.5
    targets = np.arange(3, dtype=np.int32)
    for found, exact in zip(
        engine.gradient(images, targets, "activation"),
        clip.gradient(images, targets, "activation"),
        strict=True,
    ):
        assert relative_error(found, exact) < 1e-6


# --- branches ------------------------------------------------------------------------------------


def _branched(condition: str, opened: bool = False) -> pyoip.Network:
    """If the condition holds, twice c; else c and a sigmoid of it, by tensors of the same names."""
    graphs = [
        parser.parse_graph("g () => (float[N, C, H, W] r) {t = Add(c, c) r = Relu(t)}"),
        parser.parse_graph("g () => (float[N, C, H, W] r) {t = Sigmoid(c) r = Add(t, c)}"),
    ]
    both = dict(zip(("then_branch", "else_branch"), graphs, strict=True))
    network = [
        *(parser.parse_node(line) for line in f"c = Conv(x, w); {condition}".split(";")),
        helper.make_node("If", ["q"], ["d"], **both),
        helper.make_node("If", ["q"], ["e"], **both),
        *(parser.parse_node(line) for line in ["f = Add(d, e)", " y = Conv(f, v)"]),
    ]
    graph = helper.make_graph(
        network,
        "branched",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, "h", "w"])],
        [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()]
        + [numpy_helper.from_array(np.array(0, np.int64), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return pyoip.load(model, input_shape=(1, 8, 9))


@pytest.mark.parametrize(
    ("condition", "ops"),
    [
        ("s = Size(c); q = Equal(s, zero)", {"Sigmoid", "Add", "Conv", "Identity"}),
        ("s = Size(c); q = Greater(s, zero)", {"Relu", "Add", "Conv", "Identity"}),
    ],
)
def test_an_if_that_always_goes_one_way_is_what_it_does_there(
    condition: str, ops: set[str]
) -> None:
    """Exporters of dynamic shapes write such; the same names in two branches are two tensors."""
    network = _branched(condition)
    assert {node.op for node in network.nodes} == ops
    names = [name for node in network.nodes for name in node.outputs]
    assert len(set(names)) == len(names)
    assert OnnxEngine(network, 2).score(pyoip.start_images(2, (1, 8, 9)), "activation").any()


def test_an_if_that_depends_on_the_image_is_refused_by_name() -> None:
    with pytest.raises(pyoip.ModelError, match=r"\(Conv\).*because of node 'd' \(If\)"):
        _branched("s = ReduceMax <keepdims = 0> (c); f0 = Cast <to = 7> (s); q = Equal(f0, zero)")


# --- weights that are computed -------------------------------------------------------------------

COMPUTED = [
    "n = ReduceL2 <axes = [1, 2, 3]> (w); u = Div(w, n)",  # weight normalisation
    "r = Reshape(w, rows); m = MatMul(r, vector); s = ReduceMax(m); u = Div(w, s)",  # spectral
    "a = Abs(w); e = Erf(a); g = Sign(w); u = Mul(e, g)",
    "i = Range(zero, four, one); f = Cast <to = 1> (i); q = Reshape(f, each); u = Mul(w, q)",
    "u = Pad(w, border)",
]


@pytest.mark.parametrize("nodes", COMPUTED)
def test_weights_may_be_computed_from_others(nodes: str) -> None:
    constants = {
        "rows": np.array([4, 9]),
        "vector": RNG.standard_normal((9, 1)).astype(np.float32),
        "zero": np.array(0),
        "one": np.array(1),
        "four": np.array(4),
        "each": np.array([4, 1, 1, 1]),
        "border": np.array([0, 0, 1, 0, 0, 0, 0, 0]),
    }
    network = _load(f"{nodes}; y = Conv(x, u)", constants)
    assert [node.op for node in network.nodes] == ["Conv"]
