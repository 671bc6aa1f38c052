"""From a network to the graph of its gradient: another ONNX model, which any runtime executes."""

from .export import export_step
from .step import (
    Place,
    activation_model,
    ascent_model,
    gradient_model,
    locate,
    score_model,
    selection_model,
    step_model,
)
from .tape import LANES

__all__ = [
    "LANES",
    "Place",
    "activation_model",
    "ascent_model",
    "export_step",
    "gradient_model",
    "locate",
    "score_model",
    "selection_model",
    "step_model",
]
