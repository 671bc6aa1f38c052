"""Damaged, hostile and unusable models: always one line of `ModelError`, never anything else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_network import build, node, small, value, weights

from pyoip.errors import ModelError
from pyoip.network import load


def refuse(model: Any, message: str) -> None:
    """Check that loading raises one line that says `message`."""
    with pytest.raises(ModelError, match=message) as error:
        load(model)
    text = str(error.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 600
    source = str(model) if isinstance(model, str | Path) else "<ModelProto>"
    assert text.startswith((source, repr(source)))
    assert "; " in text  # the remedy


# --- files ---------------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    refuse(tmp_path / "no.onnx", "No such file.*; pass 'mnist' or the path")
    refuse("fashion", "No such file")


def test_folder(tmp_path: Path) -> None:
    refuse(tmp_path, "not a plain file")


@pytest.mark.parametrize(
    "data", [b"hello, world", b"\x00" * 64, b"\xff" * 1000, b"PK\x03\x04" + b"0" * 500]
)
def test_other_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    refuse(path, "not an ONNX model, or truncated or damaged; fetch or export it again")


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.touch()
    refuse(path, "the file is empty")


def test_odd_file_name_stays_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        load(tmp_path / "two\nlines.onnx")
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(ModelError, match="null"):
        load("nul\0.onnx")


@pytest.mark.skipif(os.name != "posix", reason="needs sparse files and pipes")
def test_file_of_many_gigabytes_and_pipe(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    path.touch()
    os.truncate(path, 40 * 2**30)
    start = time.perf_counter()
    refuse(path, "42949672960 bytes; an ONNX file has at most 2147483647")
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "not a plain file")
    assert time.perf_counter() - start < 1


def test_no_graph() -> None:
    refuse(onnx.ModelProto(ir_version=8), "no graph in it")


# --- external data -------------------------------------------------------------------------------


def with_external(folder: Path, **entries: Any) -> Path:
    """A model whose first weights claim to lie elsewhere."""
    model = small()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, entry in entries.items():
        tensor.external_data.add(key=key, value=str(entry))
    folder.mkdir(exist_ok=True)
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the model's folder that is just as long as the weights."""
    path = tmp_path / "secret.bin"
    path.write_bytes(bytes(144))
    return path


def test_external_data_outside(tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "model"
    for location in ("../secret.bin", str(secret), "sub/../../secret.bin", "", ".\0"):
        path = with_external(folder, location=location)
        refuse(path, "is external data .* outside the model's folder; put the data file beside")


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_external_data_behind_links(tmp_path: Path, secret: Path) -> None:
    path = with_external(tmp_path / "model", location="link.bin")
    (path.parent / "link.bin").symlink_to(secret)
    refuse(path, "outside the model's folder")
    path = with_external(tmp_path / "model", location="way/secret.bin")
    (path.parent / "way").symlink_to(tmp_path)
    refuse(path, "outside the model's folder")
    path = with_external(tmp_path / "model", location="loop")
    (path.parent / "loop").symlink_to(path.parent / "loop")
    refuse(path, "outside the model's folder|cannot be read")
    path = with_external(tmp_path / "model", location="pipe")
    os.mkfifo(path.parent / "pipe")
    refuse(path, "is not a plain file")


def test_external_data_inside(tmp_path: Path) -> None:
    path = with_external(tmp_path, location="sub/w.bin", offset=8, length=144)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(bytes(8) + np.full(36, 2, np.float32).tobytes())
    assert load(path).graph.constants["conv1.weight"].tolist()[0] == [[[2.0] * 3] * 3]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "'w.bin', which cannot be read \\(No such file"),
        ({"offset": 4}, "needs bytes 4..148 of the external data file 'w.bin', which has 144"),
        ({"offset": "9" * 18}, "which has 144"),
        ({"offset": "9" * 30}, "external offset .* must be a number"),
        ({"offset": -4}, "external offset '-4'; must be a number"),
        ({"length": "x"}, "external length 'x'; must be a number"),
        ({"length": 100}, "has 100 external bytes but its dimensions need 144"),
    ],
)
def test_external_data_missing_or_cut(
    tmp_path: Path, entries: dict[str, Any], message: str
) -> None:
    if entries:
        (tmp_path / "w.bin").write_bytes(bytes(144))
    refuse(with_external(tmp_path, location="w.bin", **entries), message)


def test_external_data_of_a_model_in_memory(tmp_path: Path) -> None:
    path = with_external(tmp_path, location="w.bin")
    refuse(onnx.load(path, load_external_data=False), "of a model in memory; pass the path")


@pytest.mark.skipif(os.name != "posix", reason="needs sparse files")
def test_external_data_of_many_gigabytes(tmp_path: Path) -> None:
    path = with_external(tmp_path, location="w.bin")
    (tmp_path / "w.bin").touch()
    os.truncate(tmp_path / "w.bin", 2**42)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].dims[:] = [2**10, 2**10, 2**9, 1]
    model.graph.initializer.append(model.graph.initializer[0])
    model.graph.initializer[-1].name = "more"
    path.write_bytes(model.SerializeToString())
    start = time.perf_counter()
    refuse(path, "4294967296 bytes of external data; at most 2147483648")
    assert time.perf_counter() - start < 1


# --- weights -------------------------------------------------------------------------------------


def changed(change: Callable[[onnx.ModelProto], Any]) -> onnx.ModelProto:
    model = small()
    change(model)
    return model


def weight(model: onnx.ModelProto, index: int = 0) -> onnx.TensorProto:
    return model.graph.initializer[index]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_weights_that_are_not_finite(wrong: float, kind: Any) -> None:
    for index in (0, 3):
        model = small()
        array = numpy_helper.to_array(weight(model, index)).astype(kind)
        array.flat[-1] = wrong
        weight(model, index).CopyFrom(numpy_helper.from_array(array, weight(model, index).name))
        refuse(model, f"'{weight(model, index).name}' holds NaN or infinite values")


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([4, 1, 3, 4], "has 144 bytes but dimensions .* need 192"),
        ([4, 1, 3], "has 144 bytes but dimensions .* need 48"),
        ([2**20, 2**20, 3, 3], "values; at most 2147483647"),
        ([2**62, 2**62, 2**62, 2**62], "values; at most 2147483647"),
        ([2**16, 2**14, 1, 1], "has 144 bytes but dimensions .* need 4294967296"),
        ([-4, -1, 3, 3], "none may be negative"),
        ([0, 1, 3, 3], "has 144 bytes but dimensions .* need 0"),
        ([36], "weight tensor of shape \\[36\\]; must have 4 dimensions"),
        ([4, 9], "must have 4 dimensions"),
        ([2, 2, 3, 3], "weights for 2 channels meet an input of 1"),
        ([6, 1, 3, 2], "kernel_shape \\[3, 3\\] but weights of shape"),
    ],
)
def test_dimensions_of_weights(dims: list[int], message: str) -> None:
    start = time.perf_counter()
    refuse(changed(lambda m: weight(m).dims.__setitem__(slice(None), dims)), message)
    assert time.perf_counter() - start < 1


def test_weights_in_typed_fields() -> None:
    def short(model: onnx.ModelProto) -> None:
        weight(model).ClearField("raw_data")
        weight(model).float_data.extend([1.0] * 35)

    refuse(changed(short), "has 35 values but dimensions .* need 36")
    refuse(changed(lambda m: weight(m).ClearField("raw_data")), "has 0 values")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(weight(m), "data_type", 77), "unknown data type 77"),
        (lambda m: setattr(weight(m), "data_type", 0), "unknown data type 0"),
        (lambda m: setattr(weight(m), "data_type", 11), "has 144 bytes but"),
        (lambda m: setattr(weight(m), "data_type", 8), "weights are not in the model"),
        (lambda m: setattr(weight(m).segment, "begin", 1), "stored in segments"),
        (lambda m: m.graph.sparse_initializer.add(), "sparse weights"),
        (lambda m: m.graph.initializer.append(weight(m)), "two weight tensors of the same name"),
        (lambda m: m.graph.initializer.pop(0), "uses 'conv1.weight', which is no weight tensor"),
        (lambda m: weight(m, 1).dims.__setitem__(0, 3), "has 16 bytes but"),
        (lambda m: weight(m, 1).CopyFrom(weights("conv1.bias", 5)), "bias of shape \\[5\\]"),
        (lambda m: weight(m, 1).CopyFrom(weights("conv1.bias", 4, 1)), "bias of shape \\[4, 1\\]"),
    ],
)
def test_weight_tensors(change: Callable[[onnx.ModelProto], Any], message: str) -> None:
    refuse(changed(change), message)


def test_weights_that_are_an_open_input() -> None:
    model = small()
    tensor = model.graph.initializer.pop(0)
    model.graph.input.append(value(tensor.name, tensor.dims))
    refuse(model, r"'c1_node' \(Conv\): its weights are not in the model; save the model with its")


# --- graphs --------------------------------------------------------------------------------------


def opset(number: int, domain: str = "") -> Callable[[onnx.ModelProto], Any]:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = number
        model.opset_import[0].domain = domain

    return change


def first(field: str, wrong: Any) -> Callable[[onnx.ModelProto], Any]:
    return lambda model: setattr(model.graph.node[1], field, wrong)


def swap(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[::-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (opset(5), r"unknown operator set version 5; must be 6\.\."),
        (opset(10**6), r"unknown operator set version 1000000; must be 6\.\."),
        (opset(-1), "unknown operator set version -1"),
        (opset(17, "com.me"), "no ONNX operator set named"),
        (lambda m: m.opset_import.pop(), "no ONNX operator set named"),
        (lambda m: m.opset_import.add(version=9), "two versions of the operator set ''"),
        (first("op_type", "Rolu"), r"node 'r1_node' \(Rolu\) is an unknown operator"),
        (first("op_type", ""), "is an unknown operator"),
        (first("domain", "com.me"), "is of the unknown domain 'com.me'"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "r2"), "'r2' before it is computed: a cyc"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "c1"), "'c1' before it is computed"),
        (swap, "'c2' before it is computed: a cycle, or nodes out of order"),
        (lambda m: m.graph.node[1].input.__setitem__(0, "zz"), "'zz', which is no weight tensor"),
        (lambda m: m.graph.node[2].output.__setitem__(0, "r1"), "computes 'r1' again"),
        (lambda m: m.graph.node[1].input.append("c1"), "has 2 inputs; must be 1..1"),
        (lambda m: m.graph.node[1].output.pop(), "has 0 outputs; must be 1..1"),
        (lambda m: m.graph.node[2].attribute.pop(0), "lacks its attribute 'kernel_shape'"),
        (lambda m: m.graph.input.pop(), "uses 'x', which is no weight tensor"),
    ],
)
def test_graphs(change: Callable[[onnx.ModelProto], Any], message: str) -> None:
    refuse(changed(change), message)


def test_unknown_operator_set_is_told_before_anything_else() -> None:
    model = small()
    model.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    refuse(model, f"must be 6..{onnx.defs.onnx_opset_version()}; export it again with opset 18")


@pytest.mark.parametrize("size", [0, -1, -(2**63)])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_input_of_no_size(size: int, axis: int) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size

    refuse(changed(change), f"input 'x' has the .* {size}; must be at least 1")


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_input_of_overflowing_size(axis: int) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 2**62

    refuse(changed(change), "must have at most 2147483647 values")


@pytest.mark.parametrize("shape", [(), (12,), (1, 1, 1, 12, 12)])
def test_input_of_another_rank(shape: tuple[Any, ...]) -> None:
    model = small()
    model.graph.input[0].CopyFrom(value("x", shape))
    refuse(model, "no image input: its convolutions depend on the inputs 'x'; pass a network with")


def test_signal_for_a_kernel_of_two_axes() -> None:
    model = small()
    model.graph.input[0].CopyFrom(value("x", ("N", 12, 12)))
    refuse(model, r"input of shape \[1, 12, 12\]; must have 4 dimensions")


def test_two_images() -> None:
    nodes = [node("Add", "x y", "sum"), node("Conv", "sum w", "c")]
    model = build(nodes, [weights("w", 2, 1, 3, 3)], inputs=[value("y", (1, 1, 12, 12))])
    refuse(model, "2 inputs could be the image: 'x', 'y'; export the network with one")


def test_no_convolution() -> None:
    refuse(build([node("Relu", "x", "r")], []), "no convolution layer; pass a convolutional")
    volumes = build([node("Conv", "x w", "c")], [weights("w", 2, 1, 3, 3, 3)], ("N", 1, 12, 12, 12))
    refuse(volumes, r"no image input.*\(N, C, H, W\), or \(N, C, L\) for signals")
    five = numpy_helper.from_array(np.array([-1, 1, 3, 4, 12]), "five")
    inside = [node("Reshape", "x five", "v"), node("Conv", "v w", "c")]
    only = build(inside, [weights("w", 2, 1, 3, 3, 3), five], ("N", 1, 12, 12))
    refuse(only, r"no convolution along one or two axes; pass a network for images \(N, C, H, W\)")
    branch = helper.make_graph([node("Conv", "x w", "inner")], "b", [], [value("inner", None)])
    nodes = [node("If", "yes", "end", then_branch=branch, else_branch=branch)]
    yes = numpy_helper.from_array(np.array(True), "yes")
    refuse(build(nodes, [yes, weights("w", 2, 1, 3, 3)]), r"outside sub-graphs \(If, Loop, Scan\)")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"strides": [0, 1]}, r"strides \[0, 1\]; every one must be 1\.\."),
        ({"strides": [-1, 1]}, "strides"),
        ({"strides": [1]}, r"strides \[1\]; must be 2 whole numbers"),
        ({"dilations": [0, 1]}, r"dilations \[0, 1\]"),
        ({"dilations": [2**40, 1]}, "dilations"),
        ({"dilations": [6, 1]}, "kernel of 13 is larger than its padded input of 12; use a larger"),
        ({"pads": [0, 0, -1, 0]}, r"pads \[0, 0, -1, 0\]; every one must be 0\.\."),
        ({"pads": [2**62] * 4}, "pads"),
        ({"pads": [2**30] * 4}, "a result of shape"),
        ({"pads": [1, 1]}, "must be 4 whole numbers"),
        ({"group": 0}, "group 0; must be a whole number of at least 1"),
        ({"group": -1}, "group -1"),
        ({"group": 3}, "group 3 does not divide 1 channels and 4 maps"),
        ({"group": 2**62}, "does not divide"),
        ({"kernel_shape": [3, 5]}, r"kernel_shape \[3, 5\] but weights"),
        ({"kernel_shape": [0, 0]}, r"kernel_shape \[0, 0\]"),
        ({"auto_pad": "SAME"}, "auto_pad 'SAME'; known are NOTSET"),
        ({"auto_pad": b"\xff\xfe"}, "auto_pad"),
        ({"strides": 2}, "attribute 'strides' of a wrong type"),
        ({"stride": [1, 1]}, "unknown attribute 'stride'"),
    ],
)
def test_attributes_of_a_convolution(attributes: dict[str, Any], message: str) -> None:
    model = build([node("Conv", "x w", "c", **attributes)], [weights("w", 4, 1, 3, 3)])
    refuse(model, rf"node 'c_node' \(Conv\).*{message}")


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"kernel_shape": [13, 1]}, "kernel of 13 is larger than its padded input of 10"),
        ({"kernel_shape": [2, 2], "strides": [0, 0]}, "strides"),
        ({"kernel_shape": [2, 2], "pads": [0, 2, 0, 0]}, "pad 2 must be less than the kernel of 2"),
        ({"kernel_shape": [2, 2], "pads": [0, 0, 0, 2]}, "pad 2 must be less than the kernel of 2"),
        ({"kernel_shape": [2]}, "kernel_shape"),
        ({"kernel_shape": [2**63 - 1] * 2}, "kernel_shape"),
    ],
)
def test_attributes_of_a_pooling(op: str, attributes: dict[str, Any], message: str) -> None:
    nodes = [node("Conv", "x w", "c"), node(op, "c", "p", **attributes)]
    refuse(build(nodes, [weights("w", 4, 1, 3, 3)]), rf"node 'p_node' \({op}\).*{message}")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Transpose", "x", "y", perm=[0, 9, 1, 2])], "Transpose"),
        ([node("Transpose", "x", "y", perm=[0, 1])], "Transpose"),
        ([node("Reshape", "x five", "y")], "Reshape"),
        ([node("Concat", "x x", "y", axis=7)], "Concat"),
        ([node("Squeeze", "x", "y")], "Squeeze|must have 4 dimensions|shape of its input"),
        ([node("Flatten", "x", "y")], r"input of shape \[1, 144\]; must have 4 dimensions"),
        ([node("Add", "x seven", "y")], r"shapes \[1, 1, 12, 12\] and \[7\] do not go together"),
        ([node("ConstantOfShape", "huge", "z"), node("Add", "x z", "y")], "at most 2147483647"),
        ([node("Expand", "x huge", "y")], "Expand"),
        ([node("Tile", "x huge", "y")], "Tile|at most"),
        ([node("GatherND", "x five", "y")], r"not known, because of node 'y_node' \(GatherND\)"),
        ([node("Log", "minus", "z"), node("Add", "x z", "y")], "constant is NaN or infinite"),
    ],
)
def test_nodes_before_a_convolution(nodes: list[onnx.NodeProto], message: str) -> None:
    tensors = [
        weights("w", 2, 1, 3, 3),
        numpy_helper.from_array(np.array([5]), "five"),
        weights("seven", 7),
        numpy_helper.from_array(np.array([-1], np.float32), "minus"),
        numpy_helper.from_array(np.array([2**20, 2**20, 2**20, 2**20]), "huge"),
    ]
    refuse(build([*nodes, node("Conv", "y w", "c")], tensors), message)


def test_constants_that_grow_without_bound() -> None:
    nodes = [node("Constant", "", "t0", value=weights("v", 1, 1, 64, 64))]
    nodes += [node("Concat", f"t{i} t{i}", f"t{i + 1}", axis=1) for i in range(30)]
    nodes += [node("Add", "x t30", "y"), node("Conv", "y w", "c")]
    start = time.perf_counter()
    refuse(build(nodes, [weights("w", 1, 1, 3, 3)]), "constants of more than .* values in all")
    assert time.perf_counter() - start < 20


def with_functions(*functions: tuple[str, list[str]]) -> onnx.ModelProto:
    """A model whose functions call the named ones in turn."""
    model = build([helper.make_node("f0", ["x"], ["y"], domain="mine")], [])
    model.opset_import.append(helper.make_opsetid("mine", 1))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    for name, calls in functions:
        names = ["a", *(f"t{i}" for i in range(len(calls)))]
        body = [
            helper.make_node(
                call, [names[i]], [names[i + 1]], domain="mine" if call[0] == "f" else ""
            )
            for i, call in enumerate(calls)
        ]
        model.functions.append(helper.make_function("mine", name, ["a"], [names[-1]], body, opsets))
    return model


def test_functions_that_call_themselves() -> None:
    refuse(with_functions(("f0", ["f0"])), "function 'f0' calls itself")
    refuse(with_functions(("f0", ["Relu", "f1"]), ("f1", ["f0"])), "function 'f[01]' calls itself")


def test_functions_that_are_damaged() -> None:
    model = with_functions(("f0", ["Relu"]))
    model.functions[0].node[0].output[0] = ""
    model.graph.node[0].input.extend(["x", "x"])
    refuse(model, "functions cannot be replaced|no convolution layer|is no weight tensor")


def test_functions_that_explode() -> None:
    chain = [(f"f{i}", [f"f{i + 1}"] * 10) for i in range(30)]
    start = time.perf_counter()
    refuse(with_functions(*chain, ("f30", ["Relu"])), "nodes once its functions are replaced")
    assert time.perf_counter() - start < 1


def test_names_that_are_not_text(tmp_path: Path) -> None:
    data = small().SerializeToString()
    for name in (b"conv1.weight", b"c1_node", b"Relu", b"conv1.bias"):
        path = tmp_path / "net.onnx"
        path.write_bytes(data.replace(name, b"\xff\xfe" + name[2:]))
        refuse(path, "is not valid text")


def test_names_with_line_breaks_stay_on_one_line() -> None:
    model = small()
    model.graph.node[0].name = "a\nb" * 1000
    model.graph.node[0].attribute[0].ints[0] = 5
    refuse(model, r"node 'a\\nba\\nb")


# --- chance --------------------------------------------------------------------------------------

CASES = 300
_EXTREME = (0, 1, 2, 3, 7, -1, -2, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
_OPERATORS = sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""})
_KINDS = ("flip", "flips", "byte", "cut", "drop", "repeat")


def _damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one of the ways in which files get damaged."""
    kind = _KINDS[int(rng.integers(len(_KINDS)))]
    array = np.frombuffer(data, np.uint8).copy()
    place = int(rng.integers(len(array)))
    end = min(len(array), place + int(rng.integers(1, 40)))
    if kind in ("flip", "flips"):
        for at in rng.integers(len(array), size=1 if kind == "flip" else 12):
            array[at] ^= 1 << int(rng.integers(8))
    elif kind == "byte":
        array[place] = rng.integers(256)
    elif kind == "cut":
        return data[:place]
    elif kind == "drop":
        return data[:place] + data[end:]
    else:
        return data[:end] + data[place:]
    return array.tobytes()


def _rich() -> onnx.ModelProto:
    """A small valid model with many kinds of nodes, so that damage finds more to hit."""
    model = small()
    nodes = [
        node("Shape", "x", "shape"),
        node("Slice", "shape from to", "batch"),
        node("Concat", "batch rest", "target", axis=0),
        node("Reshape", "r2 target", "again"),
        node("Transpose", "again", "turned", perm=[0, 1, 3, 2]),
        node("Pad", "turned pads", "padded"),
        node("BatchNormalization", "padded b b b v", "normal"),
        node("AveragePool", "normal", "pooled", kernel_shape=[3, 3], ceil_mode=1),
        node("Conv", "pooled w", "c3", dilations=[2, 1], group=2, auto_pad="SAME_UPPER"),
        node("LeakyRelu", "c3", "end", alpha=0.2),
    ]
    model.graph.node.extend(nodes)
    ints = {"from": [0], "to": [1], "rest": [6, 5, 5], "pads": [0, 0, 1, 1, 0, 0, 1, 1]}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(numbers), name) for name, numbers in ints.items()
    )
    model.graph.initializer.extend([weights("b", 6), weights("w", 4, 3, 3, 2)])
    model.graph.initializer.append(numpy_helper.from_array(np.ones(6, np.float32), "v"))
    del model.graph.output[:]
    model.graph.output.append(value("end", None))
    return model


def test_chance_damage_loads_or_raises_model_error(tmp_path: Path) -> None:
    data = _rich().SerializeToString()
    assert len(load(_rich()).layers) == 3
    rng = np.random.default_rng(20)
    path = tmp_path / "net.onnx"
    outcomes = {True: 0, False: 0}
    for _ in range(CASES):
        path.write_bytes(_damage(data, rng))
        start = time.perf_counter()
        loaded = _loads(path)
        outcomes[loaded] += 1
        assert time.perf_counter() - start < 10
    assert min(outcomes.values()) > CASES // 20  # the damage is neither harmless nor hopeless


def _mutate(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Put a number, name or operator where it does not belong."""
    nodes, tensors = model.graph.node, model.graph.initializer
    chosen = nodes[int(rng.integers(len(nodes)))]
    extreme = _EXTREME[int(rng.integers(len(_EXTREME)))]
    kind = int(rng.integers(6))
    if kind <= 1 and chosen.attribute:
        attribute = chosen.attribute[int(rng.integers(len(chosen.attribute)))]
        if attribute.ints:
            attribute.ints[int(rng.integers(len(attribute.ints)))] = extreme
        attribute.i = extreme
    elif kind == 2:
        chosen.op_type = _OPERATORS[int(rng.integers(len(_OPERATORS)))]
    elif kind == 3:
        names = [name for other in nodes for name in (*other.input, *other.output)]
        chosen.input[int(rng.integers(len(chosen.input)))] = names[int(rng.integers(len(names)))]
    elif kind == 4:
        tensor = tensors[int(rng.integers(len(tensors)))]
        tensor.dims[int(rng.integers(len(tensor.dims)))] = extreme
    else:
        numbers = [t for t in tensors if t.data_type == TensorProto.INT64]
        tensor = numbers[int(rng.integers(len(numbers)))]
        array = np.frombuffer(tensor.raw_data, np.int64).copy()
        array[int(rng.integers(len(array)))] = extreme
        tensor.raw_data = array.tobytes()


def test_chance_mutations_load_or_raise_model_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(21)
    path = tmp_path / "net.onnx"
    outcomes = {True: 0, False: 0}
    for _ in range(CASES):
        model = _rich()
        for _ in range(int(rng.integers(1, 4))):
            _mutate(model, rng)
        path.write_bytes(model.SerializeToString())
        outcomes[_loads(path)] += 1
    assert min(outcomes.values()) > CASES // 20


def _loads(path: Path) -> bool:
    try:
        network = load(path)
    except ModelError as error:
        text = str(error)
    else:
        assert str(network)
        return True
    assert len(text.splitlines()) == 1
    assert "cannot be read (" not in text  # the net below all checks; nothing should fall into it
    return False


def test_memory_stays_small_whatever_the_dimensions_say(tmp_path: Path) -> None:
    model = small()
    weight(model).dims[:] = [2**15, 2**15, 1, 1]
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    code = (
        "import resource, sys, pyoip.network as n\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))\n"
        "try: n.load(sys.argv[1])\n"
        "except n.ModelError as e: print(e)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert "need 4294967296" in result.stdout
