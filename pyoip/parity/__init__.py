"""Do all engines compute what the model computes? Each layer beside the model's own forward pass.

The judge is the model as it was given, run by a runtime that knows nothing of pyoip
(`pyoip.graph.original`). An engine's activations are held against it at start images and at the
images that its ascents end with; its gradients against central differences.

A difference over a distance is the mean slope on the way, and so is the engine's side of the
comparison: the mean of its gradients at points between the two ends. That way the kinks of
ReLUs and poolings, of which even a short way through a deep network crosses hundreds, stand on
both sides, and the distance can be long enough for float32.
"""

from .compare import check
from .report import Parity, Row

__all__ = ["Parity", "Row", "check"]
