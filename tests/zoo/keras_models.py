"""Networks of Keras and TensorFlow, channels last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from keras import layers as kl

SIDES = {"dynamic": (3, 20, 28)}


def mobilenet() -> Any:
    image = keras.Input((24, 32, 3))
    x = kl.Rescaling(1 / 127.5, offset=-1)(image)
    x = kl.Conv2D(6, 3, strides=2, padding="same", use_bias=False)(x)
    x = kl.ReLU(6.0)(kl.BatchNormalization()(x))
    y = kl.ReLU(6.0)(kl.Conv2D(18, 1)(x))
    y = kl.ZeroPadding2D(((0, 1), (0, 1)))(y)
    y = kl.BatchNormalization()(kl.DepthwiseConv2D(3, strides=2)(y))
    y = kl.Conv2D(8, 1, use_bias=False)(kl.ReLU(6.0)(y))
    y = kl.Conv2D(8, 3, padding="same", activation="relu")(kl.BatchNormalization()(y))
    return keras.Model(image, kl.Dense(5, activation="softmax")(kl.GlobalAveragePooling2D()(y)))


def efficientnet() -> Any:
    image = keras.Input((24, 32, 3))
    x = kl.Activation("swish")(kl.Conv2D(8, 3, strides=2, padding="same")(image))
    s = kl.Reshape((1, 1, 8))(kl.GlobalAveragePooling2D()(x))
    s = kl.Conv2D(8, 1, activation="sigmoid")(kl.Conv2D(3, 1, activation="swish")(s))
    x = kl.DepthwiseConv2D(5, padding="same")(kl.Multiply()([x, s]))
    x = kl.Activation("hard_silu")(kl.BatchNormalization()(x))
    x = kl.SeparableConv2D(8, 3, dilation_rate=2, padding="same", activation="elu")(x)
    x = kl.Conv2D(4, 3, strides=2, padding="same")(x)
    x = kl.Conv2D(4, (1, 3), padding="same", activation="selu")(x)
    return keras.Model(image, x)


def unet() -> Any:
    image = keras.Input((16, 24, 1))
    a = kl.Conv2D(6, 3, padding="same", activation="relu")(image)
    b = kl.Conv2D(8, 3, padding="same", activation="relu")(kl.MaxPooling2D()(a))
    c = kl.Conv2D(8, 3, dilation_rate=2, padding="same")(kl.AveragePooling2D(2, padding="same")(b))
    u = kl.UpSampling2D(2, interpolation="bilinear")(kl.LeakyReLU()(c))
    u = kl.Conv2D(6, 3, padding="same")(kl.Concatenate()([u, b]))
    u = kl.Activation("relu")(kl.LayerNormalization()(u))
    v = kl.Conv2DTranspose(6, 3, strides=2, padding="same")(u)
    return keras.Model(image, kl.Conv2D(4, 1)(kl.Concatenate()([v, a])))


def groups() -> Any:
    image = keras.Input((16, 24, 3))
    x = kl.GroupNormalization(4)(kl.Conv2D(8, 3, padding="same")(image))
    x = kl.Conv2D(8, 3, strides=(2, 1), padding="same")(kl.Activation("tanh")(x))
    y = kl.UpSampling2D(2)(kl.PReLU(shared_axes=[1, 2])(x))
    y = kl.Conv2D(6, 3)(kl.Cropping2D(((1, 0), (0, 2)))(y))
    return keras.Model(image, kl.Conv2D(4, 3)(kl.ReLU(6, 0.1)(y)))


def dynamic() -> Any:
    """Height and width are open."""
    image = keras.Input((None, None, 3))
    x = kl.Conv2D(6, 3, strides=2, padding="same", activation="relu")(image)
    x = kl.BatchNormalization()(x)
    x = kl.Activation("relu")(kl.Add()([x, kl.Conv2D(6, 3, padding="same")(x)]))
    x = kl.MaxPooling2D(3, 2, padding="same")(x)
    x = kl.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(image, kl.Conv2D(4, 3, padding="same")(kl.UpSampling2D(2)(x)))


ALL: dict[str, Callable[[], Any]] = {
    made.__name__: made for made in (mobilenet, efficientnet, unet, groups, dynamic)
}


def build(name: str) -> Any:
    """A network with random weights and statistics, called once, as its export demands."""
    keras.utils.set_random_seed(1)
    model = ALL[name]()
    for place, weight in enumerate(model.weights):
        rng = np.random.default_rng(place)
        if "moving_variance" in weight.path:
            weight.assign(rng.uniform(0.3, 1.5, weight.shape))
        elif "moving_mean" in weight.path or "bias" in weight.path:
            weight.assign(rng.normal(0, 0.2, weight.shape))
    model(np.zeros((1, *(side or 16 for side in model.input_shape[1:])), np.float32))
    return model


def by_keras(name: str, path: Path) -> None:
    build(name).export(str(path), format="onnx", verbose=False)


def by_tf2onnx(name: str, opset: int, path: Path) -> None:
    model = build(name)
    signature = [tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, name="image")]
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    tf2onnx.convert.from_function(
        function, input_signature=signature, opset=opset, output_path=str(path)
    )


class Raw(tf.Module):
    """TensorFlow without Keras: ReLU6 by minimum and maximum, a shuffle, dynamic shapes."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        shapes = ((3, 3, 3, 6), (3, 3, 6, 8), (3, 3, 6, 1), (1, 1, 6, 8))
        self.w = [tf.Variable(rng.standard_normal(s).astype(np.float32) * 0.3) for s in shapes]

    def __call__(self, x: Any) -> Any:
        a = tf.nn.conv2d((x - 0.5) * 2.0, self.w[0], 2, "SAME")
        a = tf.minimum(tf.maximum(a + 0.1, 0.0), 6.0)
        d = tf.nn.depthwise_conv2d(a, self.w[2], [1, 1, 1, 1], "SAME", dilations=[2, 2])
        b = tf.nn.conv2d(tf.nn.relu6(d), self.w[1], 1, "VALID")
        b = tf.nn.local_response_normalization(b, 2, 1.0, 0.1, 0.75)
        b = b * tf.sigmoid(tf.reduce_mean(b, [1, 2], keepdims=True))
        n, h, w = tf.unstack(tf.shape(b))[:3]
        b = tf.transpose(tf.reshape(b, [n, h, w, 2, 4]), [0, 1, 2, 4, 3])
        b = tf.image.resize(tf.reshape(b, [n, h, w, 8]), [9, 11])
        b = tf.nn.space_to_depth(b[:, :8, :10], 2)[..., :6]
        c = tf.nn.conv2d(b, self.w[3], 1, "SAME")
        return tf.nn.l2_normalize(tf.nn.leaky_relu(c), -1)


def raw(opset: int, nchw: bool, path: Path) -> None:
    signature = [tf.TensorSpec([None, 20, 28, 3], tf.float32, name="x")]
    tf2onnx.convert.from_function(
        tf.function(Raw().__call__, input_signature=signature),
        input_signature=signature,
        opset=opset,
        inputs_as_nchw=["x"] if nchw else None,
        output_path=str(path),
    )
