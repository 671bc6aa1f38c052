"""The equation of an Einsum, its letters resolved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .node import NodeError, Shape


@dataclass(frozen=True)
class Equation:
    """An equation without ellipses and spaces: the letters of each input, and of the result."""

    inputs: tuple[str, ...]
    result: str

    def sizes(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """Return the size of each letter; 1 goes with every other.

        Raises
        ------
        NodeError
            The sizes of a letter do not go together.
        """
        found: dict[str, int] = {}
        for letters, shape in zip(self.inputs, shapes, strict=True):
            for letter, size in zip(letters, shape, strict=True):
                known = found.setdefault(letter, size)
                if known != size and 1 not in (known, size):
                    raise NodeError(f"sizes {known} and {size} of {letter!r} do not go together")
                found[letter] = max(known, size)
        return found

    def __str__(self) -> str:
        return f"{','.join(self.inputs)}->{self.result}"


def equation(text: str, ranks: Sequence[int]) -> Equation:
    """Return the equation `text` for inputs of these ranks.

    Raises
    ------
    NodeError
        It is none, or not for these inputs.
    """
    left, arrow, right = text.replace(" ", "").partition("->")
    terms = left.split(",")
    letters = set(left + right) - set(",.")
    if len(terms) != len(ranks) or any(not letter.isalpha() for letter in letters):
        raise _wrong(text, ranks)
    spare = [chr(code) for code in (*range(65, 91), *range(97, 123)) if chr(code) not in letters]
    widths = [r - len(t.replace("...", "")) for t, r in zip(terms, ranks, strict=True)]
    most = max([w for w, t in zip(widths, terms, strict=True) if "..." in t], default=0)
    if most > len(spare) or min(widths) < 0:
        raise _wrong(text, ranks)
    dots = "".join(spare[:most])
    inputs = [t.replace("...", dots[most - w :]) for t, w in zip(terms, widths, strict=True)]
    if not arrow:
        once = sorted(c for c in letters if left.count(c) == 1)
        right = ("..." if most else "") + "".join(once)
    result = right.replace("...", dots)
    if [len(term) for term in inputs] != list(ranks) or not set(result) <= set("".join(inputs)):
        raise _wrong(text, ranks)
    return Equation(tuple(inputs), result)


def _wrong(text: str, ranks: Sequence[int]) -> NodeError:
    return NodeError(f"equation {text!r} for inputs of {list(ranks)} axes")


def result_shape(text: str, shapes: Sequence[Shape]) -> Shape:
    """Return the shape of the result of an Einsum.

    Raises
    ------
    NodeError
        The equation does not fit the inputs.
    """
    found = equation(text, [len(shape) for shape in shapes])
    sizes = found.sizes(shapes)
    return tuple(sizes[letter] for letter in found.result)
