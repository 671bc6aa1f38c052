"""Everything pyoip raises on purpose: one line each, naming the value, the rule and the remedy."""

from __future__ import annotations

from typing import Any


class PyoipError(Exception):
    """Base of all errors that pyoip raises on purpose."""


class ModelError(PyoipError, ValueError):
    """A model file, graph or module cannot be used as it is."""


class UnsupportedLayer(PyoipError, ValueError):
    """A valid layer that the chosen engine cannot compute."""


class UnsupportedOperator(UnsupportedLayer):
    """A layer depends on an ONNX operator through which no gradient is known."""


class InvalidArgument(PyoipError, ValueError):
    """An argument is outside its valid range."""


class DataError(PyoipError):
    """A data set or result file is missing, damaged or of another kind."""


class EngineUnavailable(PyoipError, RuntimeError):
    """The engine asked for does not exist in this installation."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during an ascent or a survey; what was finished by then is kept.

    Attributes
    ----------
    result : pyoip.Result or pyoip.Survey
        The result over the maps that were finished (perhaps none); what a survey has found so far.
    """

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result
