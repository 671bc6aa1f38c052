"""Networks as exporters of other frameworks and other years wrote them, by ``onnx.helper``.

What is imitated is how they spell: names, operator sets, weights among the inputs or as nodes,
attributes that were dropped since, biases as nodes of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

Array = np.ndarray[Any, Any]
Made = tuple[onnx.ModelProto, tuple[int, int, int] | None]


class Draft:
    """A graph that is being written, in ONNX's own text, with random weights by their shapes."""

    def __init__(self, name: str, opset: int, image: Any, kind: int = TensorProto.FLOAT) -> None:
        self.name, self.opset, self.kind = name, opset, kind
        self.rng = np.random.default_rng(list(name.encode()))
        self.image = helper.make_tensor_value_info("data", kind, image)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}

    def add(self, text: str) -> None:
        self.nodes += [parser.parse_node(line) for line in text.split(";")]

    def conv(self, name: str, *shape: int, bias: bool = True) -> None:
        """Weights ``name.w`` and a bias ``name.b``, of a size that keeps values of order one."""
        scale = (2 / np.prod(shape[1:])) ** 0.5
        self.put(f"{name}_w", self.rng.standard_normal(shape) * scale)
        if bias:
            self.put(f"{name}_b", self.rng.standard_normal(shape[0]) * 0.1)

    def norm(self, name: str, channels: int) -> None:
        """Scale, shift, mean and variance, ``name.s`` and so on."""
        self.put(f"{name}_s", self.rng.uniform(0.7, 1.4, channels))
        self.put(f"{name}_o", self.rng.standard_normal(channels) * 0.2)
        self.put(f"{name}_m", self.rng.standard_normal(channels) * 0.3)
        self.put(f"{name}_v", self.rng.uniform(0.3, 1.5, channels))

    def put(self, name: str, array: Any) -> None:
        array = np.asarray(array)
        kind = helper.tensor_dtype_to_np_dtype(self.kind)
        self.weights[name] = array.astype(kind) if array.dtype.kind == "f" else array

    def model(
        self,
        outputs: dict[str, Any],
        *,
        as_inputs: bool = False,
        as_nodes: bool = False,
        more_inputs: tuple[onnx.ValueInfoProto, ...] = (),
    ) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        inputs, nodes = [self.image, *more_inputs], list(self.nodes)
        if as_inputs:  # as the format demanded at first
            inputs += [
                helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors
            ]
        if as_nodes:
            nodes[:0] = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
            tensors = []
        ends = [helper.make_tensor_value_info(k, self.kind, dims) for k, dims in outputs.items()]
        graph = helper.make_graph(nodes, self.name, inputs, ends, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 3 if as_inputs else 8 if self.opset < 19 else 10
        return model


def _caffe2(opset: int) -> Made:
    """Weights are inputs, Sum joins; what operator set 6 says by attributes, 7 says by shapes."""
    net = Draft("caffe2", opset, [1, 3, 20, 24])
    for name, shape in (("c1", (6, 3, 5, 5)), ("c2", (6, 6, 3, 3)), ("c3", (6, 6, 1, 1))):
        net.conv(name, *shape)
        net.norm(name, 6)
    net.conv("c4", 4, 6, 3, 3, bias=False)
    flat = (4,) if opset == 6 else (4, 1, 1)
    net.put("shift", net.rng.standard_normal(flat) * 0.1)
    net.put("gain", net.rng.uniform(0.5, 1.5, flat))
    test, along = ("is_test = 1, ", "<broadcast = 1, axis = 1>") if opset == 6 else ("", "")
    normal = f"BatchNormalization <{test}epsilon = 0.00001>"
    net.add(f"""a = Conv <strides = [2, 2], pads = [2, 2, 2, 2], kernel_shape = [5, 5]>
        (data, c1_w, c1_b); b = {normal} (a, c1_s, c1_o, c1_m, c1_v); c = Relu(b);
        d = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (c, c2_w, c2_b);
        e = {normal} (d, c2_s, c2_o, c2_m, c2_v);
        f = Conv <kernel_shape = [1, 1]> (c, c3_w, c3_b);
        g = {normal} (f, c3_s, c3_o, c3_m, c3_v);
        h = Sum(e, g); i = Relu(h); j = Dropout <{test}ratio = 0.5> (i);
        k = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (j);
        l = Conv <kernel_shape = [3, 3]> (k, c4_w); m = Mul {along} (l, gain);
        n = Add {along} (m, shift); o = LeakyRelu <alpha = 0.1> (n); p = GlobalAveragePool(o);
        q = Flatten(p); r = Softmax <axis = 1> (q)""")
    return net.model({"r": [1, 4]}, as_inputs=True), None


def caffe2_residual() -> Made:
    return _caffe2(7)


def caffe2_before() -> onnx.ModelProto:
    """The same in operator set 6, which ONNX Runtime does not run."""
    return _caffe2(6)[0]


def cntk_same() -> Made:
    """Biases of shape (C, 1, 1) as Plus nodes, auto_pad, a scaled image, an input without size."""
    net = Draft("cntk_same", 7, ["FreeDimension", 1, 21, 26])
    net.conv("c1", 6, 1, 5, 5, bias=False)
    net.conv("c2", 8, 6, 3, 3, bias=False)
    net.conv("c3", 5, 8, 4, 2, bias=False)
    net.put("scale", np.float32(1 / 64))
    net.put("mean", np.float32(-0.3))
    for name, maps in (("p1", 6), ("p2", 8), ("p3", 5)):
        net.put(name, net.rng.standard_normal((maps, 1, 1)) * 0.1)
    same = 'auto_pad = "SAME_UPPER"'
    net.add(f"""x = Mul(data, scale); y = Add(x, mean);
        a = Conv <{same}, kernel_shape = [5, 5], dilations = [1, 1], strides = [2, 2], group = 1>
        (y, c1_w); b = Add(a, p1); c = Relu(b);
        d = MaxPool <auto_pad = "NOTSET", kernel_shape = [2, 2], pads = [0, 0, 0, 0],
        strides = [2, 2]> (c);
        e = Conv <auto_pad = "SAME_LOWER", kernel_shape = [3, 3], strides = [1, 2]> (d, c2_w);
        f = Add(p2, e); g = Elu <alpha = 1.0> (f);
        h = AveragePool <{same}, kernel_shape = [3, 2], strides = [2, 1]> (g);
        i = Conv <auto_pad = "SAME_LOWER", kernel_shape = [4, 2]> (h, c3_w); j = Add(i, p3);
        k = Sigmoid(j)""")
    return net.model({"k": ["FreeDimension", 5, 3, 7]}, as_inputs=True), None


def chainer_weights_as_nodes() -> Made:
    """Operator set 9, every weight a Constant node, branches joined, Reshape by a constant."""
    net = Draft("chainer", 9, ["N", 3, 18, 18])
    for name, shape in (("c1", (4, 3, 1, 1)), ("c2", (4, 3, 3, 3)), ("c3", (6, 8, 3, 3))):
        net.conv(name, *shape)
    net.norm("bn", 8)
    net.put("shape", np.array([0, 2, 3, -1]))
    net.put("back", np.array([0, 6, 8, 8]))
    net.add("""Convolution2D_0 = Conv <pads = [0, 0, 0, 0]> (data, c1_w, c1_b);
        Convolution2D_1 = Conv <pads = [1, 1, 1, 1]> (data, c2_w, c2_b);
        ReLU_0 = Relu(Convolution2D_0); ELU_0 = Elu(Convolution2D_1);
        Concat_0 = Concat <axis = 1> (ReLU_0, ELU_0);
        Norm_0 = BatchNormalization <epsilon = 0.00002, momentum = 0.9>
        (Concat_0, bn_s, bn_o, bn_m, bn_v);
        Pool_0 = MaxPool <kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 1, 1]> (Norm_0);
        Convolution2D_2 = Conv <pads = [1, 1, 1, 1]> (Pool_0, c3_w, c3_b);
        Clipped_0 = Clip <min = 0.0, max = 20.0> (Convolution2D_2);
        Cut_0 = Slice <axes = [2, 3], starts = [0, 1], ends = [8, 9]> (Clipped_0);
        Reshape_0 = Reshape(Cut_0, shape); Max_0 = Transpose <perm = [0, 2, 1, 3]> (Reshape_0);
        Reshape_1 = Reshape(Max_0, back); Convolution2D_3 = Conv (Reshape_1, c4_w, c4_b)""")
    net.conv("c4", 3, 6, 3, 3)
    net.add("Sum_0 = ReduceSum <axes = [2, 3], keepdims = 0> (Convolution2D_3)")
    return net.model({"Sum_0": ["N", 3]}, as_nodes=True), None


def matlab_mean_image() -> Made:
    """The mean image is subtracted position by position; local response normalisation; groups."""
    net = Draft("matlab", 8, [1, 3, 23, 27])
    net.put("data_Mean", net.rng.standard_normal((1, 3, 23, 27)) * 0.2)
    net.conv("conv1", 8, 3, 5, 5)
    net.conv("conv2", 8, 4, 3, 3)
    net.conv("conv3", 6, 8, 3, 3)
    net.norm("bn", 6)
    net.add("""data_norm = Sub(data, data_Mean);
        conv1 = Conv <kernel_shape = [5, 5], strides = [2, 2], pads = [0, 0, 0, 0]>
        (data_norm, conv1_w, conv1_b); relu1 = Relu(conv1);
        norm1 = LRN <size = 5, alpha = 0.1, beta = 0.75, bias = 1.0> (relu1);
        pool1 = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [0, 0, 0, 1]> (norm1);
        conv2 = Conv <kernel_shape = [3, 3], group = 2, pads = [1, 1, 1, 1]>
        (pool1, conv2_w, conv2_b); relu2 = Relu(conv2);
        conv3 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (relu2, conv3_w, conv3_b);
        bn3 = BatchNormalization (conv3, bn_s, bn_o, bn_m, bn_v); relu3 = Relu(bn3);
        fc = Flatten <axis = 1> (relu3)""")
    return net.model({"fc": [1, 120]}), None


def mxnet_names() -> Made:
    """Padding in front of a pooling, PRelu of set 7, squeezed excitation by broadcasting."""
    net = Draft("mxnet", 7, [1, 3, 16, 16])
    net.conv("conv0", 8, 3, 3, 3, bias=False)
    net.conv("conv1", 4, 8, 1, 1)
    net.conv("conv2", 8, 4, 1, 1)
    net.conv("conv3", 6, 8, 3, 3)
    net.norm("bn0", 8)
    net.put("conv1_b", net.rng.uniform(4, 6, 4))
    net.put("slope", net.rng.uniform(0.1, 0.4, (8, 1, 1)))
    net.add("""conv0_fwd = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], dilations = [1, 1]>
        (data, conv0_w);
        bn0_fwd = BatchNormalization <epsilon = 0.001, momentum = 0.9, spatial = 1>
        (conv0_fwd, bn0_s, bn0_o, bn0_m, bn0_v); act0 = PRelu(bn0_fwd, slope);
        pad0 = Pad <mode = "constant", pads = [0, 0, 1, 1, 0, 0, 1, 1], value = -10.0> (act0);
        pool0 = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (pad0);
        gap = GlobalAveragePool(pool0); c1 = Conv(gap, conv1_w, conv1_b); r1 = Relu(c1);
        c2 = Conv(r1, conv2_w, conv2_b); s2 = HardSigmoid <alpha = 0.2, beta = 0.5> (c2);
        scaled = Mul(pool0, s2); identity = Identity(scaled);
        c3 = Conv <kernel_shape = [3, 3], strides = [2, 2]> (identity, conv3_w, conv3_b);
        t3 = Tanh(c3); softsign = Softsign(t3)""")
    return net.model({"softsign": [1, 6, 3, 3]}), None


def tensorflow_nhwc() -> Made:
    """A Transpose around each convolution, ReLU6 as Min and Max, means over axes, Squeeze."""
    net = Draft("tensorflow", 8, ["unk__1", 22, 19, 3])
    net.conv("conv", 6, 3, 3, 3, bias=False)
    net.conv("dw", 6, 1, 3, 3, bias=False)
    net.conv("pw", 8, 6, 1, 1, bias=False)
    net.put("zero", np.float32(0))
    net.put("six", np.float32(6))
    net.put("half", np.float32(0.5))
    net.put("bias", net.rng.standard_normal(6) * 0.2)
    net.put("gain", net.rng.uniform(0.5, 1.5, (1, 1, 1, 8)))
    to, back = "Transpose <perm = [0, 3, 1, 2]>", "Transpose <perm = [0, 2, 3, 1]>"
    net.add(f"""sub = Sub(data, half); mul = Mul(sub, six); t1 = {to} (mul);
        p1 = Pad <pads = [0, 0, 0, 1, 0, 0, 1, 1], mode = "constant"> (t1);
        c1 = Conv <kernel_shape = [3, 3], strides = [2, 2]> (p1, conv_w);
        b1 = {back} (c1); a1 = Add(b1, bias); x1 = Max(a1, zero); r1 = Min(x1, six);
        t2 = {to} (r1); c2 = Conv <kernel_shape = [3, 3], group = 6, pads = [1, 1, 1, 1]>
        (t2, dw_w); b2 = {back} (c2); m2 = Min(b2, six); r2 = Max(m2, zero); t3 = {to} (r2);
        c3 = Conv <kernel_shape = [1, 1]> (t3, pw_w); b3 = {back} (c3); g3 = Mul(b3, gain);
        r3 = LeakyRelu <alpha = 0.3> (g3); mean = ReduceMean <axes = [1, 2], keepdims = 1> (r3);
        scaled = Mul(r3, mean); t4 = {to} (scaled);
        u4 = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]> (t4);
        c4 = Conv <kernel_shape = [3, 3]> (u4, last_w, last_b);
        end = ReduceMax <axes = [2, 3], keepdims = 0> (c4)""")
    net.conv("last", 4, 8, 3, 3)
    return net.model({"end": ["unk__1", 4]}), None


def dynamic_everything() -> Made:
    """Batch, height and width are symbols; every shape is computed from the image's own."""
    net = Draft("dynamic", 13, ["batch", 3, "height", "width"])
    net.conv("c1", 8, 3, 3, 3)
    net.conv("c2", 8, 8, 3, 3)
    net.conv("c3", 8, 16, 3, 3)
    for name, value in (("i0", 0), ("i1", 1), ("i2", 2), ("i3", 3)):
        net.put(name, np.array(value))
    for name, value in (("n0", [0]), ("two", [2]), ("four", [4]), ("none", [-1])):
        net.put(name, np.array(value))
    net.put("from", np.array([2]))
    net.put("to", np.array([4]))
    net.put("roi", np.zeros(0, np.float32))
    net.put("one_one", np.array([1.0, 1.0], np.float32))
    net.add(
        """c1 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (data, c1_w, c1_b); r1 = Relu(c1);
        s = Shape(r1); n = Gather(s, i0); c = Gather(s, i1); h = Gather(s, i2); w = Gather(s, i3);
        un = Unsqueeze(n, n0); uh = Unsqueeze(h, n0); uw = Unsqueeze(w, n0);
        cc = Unsqueeze(c, n0); half = Div(cc, two);
        five = Concat <axis = 0> (un, two, half, uh, uw);
        v = Reshape(r1, five); t = Transpose <perm = [0, 2, 1, 3, 4]> (v);
        four_d = Concat <axis = 0> (un, none, uh, uw); y = Reshape(t, four_d);
        c2 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (y, c2_w, c2_b);
        a2 = Add(c2, three); k2 = Clip(a2, low, six); m2 = Mul(c2, k2); r2 = Div(m2, six)"""
    )
    for name, value in (("three", 3), ("low", 0), ("six", 6)):
        net.put(name, np.float32(value))
    net.add("""hw = Slice(s, from, to); s2 = Shape(r2); nc = Slice(s2, n0, two);
        size = Concat <axis = 0> (nc, hw);
        up = Resize <mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel">
        (r2, roi, roi, size); cat = Concat <axis = 1> (up, y);
        c3 = Conv <pads = [1, 1, 1, 1]> (cat, c3_w, c3_b); r3 = Relu(c3);
        like = Shape(data); hw0 = Slice(like, from, to); hwf = Cast <to = 1> (hw0);
        hwc = Cast <to = 1> (hw); ratio = Div(hwf, hwc);
        scales = Concat <axis = 0> (one_one, ratio);
        full = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
        nearest_mode = "floor"> (r3, roi, scales); c4 = Conv(full, c4_w, c4_b);
        shape4 = Shape(c4); zeros = ConstantOfShape(shape4); end = Add(c4, zeros)""")
    net.conv("c4", 3, 8, 1, 1)
    return net.model({"end": ["batch", 3, "height", "width"]}), (3, 20, 28)


def paddle_hard_functions() -> Made:
    """Hard functions spelt out, shapes by Slice, pooling that counts its padding."""
    net = Draft("paddle", 11, [-1, 3, 24, 24])
    net.conv("conv2d_0", 8, 3, 3, 3, bias=False)
    net.conv("conv2d_1", 8, 1, 5, 5, bias=False)
    net.conv("conv2d_2", 6, 8, 1, 1)
    net.norm("bn0", 8)
    for name, value in (("three", 3), ("zero", 0), ("six", 6), ("sixth", 1 / 6), ("half", 0.5)):
        net.put(name, np.float32(value))
    net.add("""a = Conv <dilations = [1, 1], group = 1, kernel_shape = [3, 3], pads = [1, 1, 1, 1],
        strides = [2, 2]> (data, conv2d_0_w);
        b = BatchNormalization (a, bn0_s, bn0_o, bn0_m, bn0_v);
        c = Add(b, three); d = Clip(c, zero, six); e = Mul(b, d); f = Mul(e, sixth);
        g = Conv <group = 8, kernel_shape = [5, 5], pads = [2, 2, 2, 2]> (f, conv2d_1_w);
        h = Mul(g, sixth); i = Add(h, half); j = Clip(i, zero, one); k = Mul(f, j);
        l = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1],
        count_include_pad = 1, ceil_mode = 1> (k);
        m = Conv <kernel_shape = [1, 1]> (l, conv2d_2_w, conv2d_2_b); n = Softplus(m);
        o = Tanh(n); p = Mul(m, o)""")
    net.put("one", np.float32(1))
    return net.model({"p": [-1, 6, 7, 7]}), None


def newest_operators() -> Made:
    """Operator set 23 with what the last sets brought: Gelu, Mish, HardSwish, normalisations."""
    net = Draft("newest", 23, ["N", 3, 20, 22])
    for name, shape in (("c1", (8, 3, 3, 3)), ("c2", (8, 8, 3, 3)), ("c3", (8, 4, 3, 3))):
        net.conv(name, *shape)
    net.conv("c4", 4, 8, 1, 1)
    for name in ("gn_s", "gn_b"):
        net.put(name, net.rng.uniform(0.5, 1.5, 8))
    net.put("ln_s", net.rng.uniform(0.5, 1.5, 8))
    net.add("""c1 = Conv <pads = [1, 1, 1, 1]> (data, c1_w, c1_b);
        g1 = GroupNormalization <num_groups = 2> (c1, gn_s, gn_b); a1 = Gelu(g1);
        c2 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (a1, c2_w, c2_b); a2 = Mish(c2);
        t2 = Transpose <perm = [0, 2, 3, 1]> (a2); l2 = LayerNormalization(t2, ln_s);
        q2 = RMSNormalization(l2, ln_s); u2 = Transpose <perm = [0, 3, 1, 2]> (q2);
        c3 = Conv <group = 2, pads = [1, 1, 1, 1]> (u2, c3_w, c3_b); a3 = HardSwish(c3);
        p3 = AveragePool <kernel_shape = [2, 2], dilations = [2, 2]> (a3);
        c4 = Conv(p3, c4_w, c4_b); a4 = Gelu <approximate = "tanh"> (c4)""")
    return net.model({"a4": ["N", 4, 8, 9]}), None


def half_precision() -> Made:
    """Weights, image and results in float16."""
    net = Draft("half", 17, ["N", 3, 16, 18], TensorProto.FLOAT16)
    net.conv("c1", 8, 3, 3, 3)
    net.conv("c2", 8, 8, 3, 3)
    net.conv("c3", 4, 8, 1, 1)
    net.norm("bn", 8)
    net.add("""c1 = Conv (data, c1_w, c1_b); r1 = Relu(c1);
        p1 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r1);
        c2 = Conv <pads = [1, 1, 1, 1]> (p1, c2_w, c2_b);
        b2 = BatchNormalization (c2, bn_s, bn_o, bn_m, bn_v); r2 = Relu(b2); s2 = Add(r2, p1);
        c3 = Conv(s2, c3_w, c3_b); r3 = Sigmoid(c3)""")
    return net.model({"r3": ["N", 4, 7, 8]}), None


def half_inside() -> Made:
    """Float32 outside, float16 inside: a Cast at both ends, as converters keep the types."""
    net = Draft("half_inside", 17, ["N", 3, 16, 18])
    net.conv("c1", 8, 3, 3, 3)
    net.conv("c2", 4, 8, 3, 3)
    net.weights = {name: array.astype(np.float16) for name, array in net.weights.items()}
    net.add("""x = Cast <to = 10> (data); c1 = Conv (x, c1_w, c1_b); r1 = Relu(c1);
        c2 = Conv (r1, c2_w, c2_b); s2 = Sigmoid(c2); end = Cast <to = 1> (s2)""")
    return net.model({"end": ["N", 4, 12, 14]}), None


ALL: dict[str, Callable[[], Made]] = {
    name: made
    for name, made in list(globals().items())
    if getattr(made, "__annotations__", {}).get("return") == "Made" and not name.startswith("_")
}
