"""Groups of ONNX operators that the graph modules tell apart."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ACTIVATIONS = _names("""
    Celu Clip Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Selu Sigmoid Softplus
    Softsign Swish Tanh ThresholdedRelu
""")
"""Activation functions, whether or not an engine can compute them."""

NORMALISATIONS = _names("""
    BatchNormalization GroupNormalization InstanceNormalization LRN LayerNormalization
    RMSNormalization
""")

POOLS = _names("MaxPool AveragePool")
"""Poolings that have a window which pyoip works out itself."""

GLOBAL_POOLS = _names("GlobalAveragePool GlobalMaxPool")

PASSED = _names("Identity Dropout Cast")
"""Operators that leave the values of an inference as they are (a Cast between float types)."""

SHAPE_ONLY = _names("Shape Size")
"""Operators that look at a tensor's shape, not at its values."""

ARITHMETIC = _names("Abs Add Div Exp Log Mul Neg Pow Sqrt Sub")

QUANTISED = _names("DequantizeLinear QuantizeLinear")

SMOOTH = _names("Erf Max Min Reciprocal")
"""What else activation functions are made of where they are spelt out."""

AFTER_CONV = (
    ACTIVATIONS | NORMALISATIONS | POOLS | GLOBAL_POOLS | PASSED | ARITHMETIC | QUANTISED | SMOOTH
)
"""What is read behind a convolution, even where no other convolution follows."""

BROADCAST = _names("""
    Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow Sub Sum
    Where Xor
""")
"""Operators between several tensors, position by position."""

SAME_SHAPE = (ACTIVATIONS | NORMALISATIONS | PASSED | ARITHMETIC) - BROADCAST | _names("""
    Acos Acosh Asin Asinh Atan Atanh CastLike Ceil Cos Cosh CumSum DequantizeLinear Erf Floor
    Hardmax IsInf IsNaN LogSoftmax LpNormalization MeanVarianceNormalization Not QuantizeLinear
    Reciprocal
    Round ScatterElements ScatterND Shrink Sign Sin Sinh Softmax Tan Trilu
""")
"""Operators whose result has the shape of their first input."""

REDUCED = _names("""
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare
""")

POINTWISE = (
    ACTIVATIONS
    | PASSED
    | ARITHMETIC
    | BROADCAST
    | _names("""
    BatchNormalization CastLike Ceil Concat Cos Erf Floor IsNaN LRN Not Reciprocal Round Sign Sin
    Split
""")
)
"""Operators whose result at a position depends on their inputs at this position only (for Concat,
Split and LRN also on other channels there)."""

PRODUCTS = _names("Gemm MatMul")
"""Products of matrices, where a value of the result takes more than one step."""

FOLDED = (
    BROADCAST
    | SAME_SHAPE
    | REDUCED
    | PRODUCTS
    | _names("""
    Concat ConstantOfShape Expand Flatten Gather Pad Range Reshape Slice Split Squeeze Tile
    Transpose Unsqueeze
""")
) - _names("Dropout")
"""Operators that are computed when all their inputs are constant: none can loop, and the size of
each result is known before."""
