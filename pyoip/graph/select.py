"""Layer and map specifications: ``2``, ``"conv2"``, ``"conv2:17"``, ``"2:3,5,8-11"``."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import InvalidArgument
from .node import quote

_LISTED = 24
_PIECE = re.compile(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?")


def find_layer(spec: object, names: Sequence[str], aliases: Sequence[Collection[str]]) -> int:
    """Return the index of the layer that `spec`, a number from 1 or a name, asks for."""
    if isinstance(spec, str):
        text = spec.strip()
        if text in names:
            return names.index(text)
        found = [index for index, known in enumerate(aliases) if text in known]
        if len(found) == 1:
            return found[0]
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise _no_layer(quote(spec), names)
        number = int(text)
    else:
        number = _whole(spec, "layer", names)
    if not 1 <= number <= len(names):
        raise _no_layer(str(number), names)
    return number - 1


def _whole(spec: object, what: str, names: Sequence[str]) -> int:
    if isinstance(spec, bool):
        raise _no_layer(repr(spec), names)
    try:
        return operator.index(spec)  # type: ignore[arg-type]
    except TypeError:
        raise _no_layer(quote(spec), names) from None


def _no_layer(spec: str, names: Sequence[str]) -> InvalidArgument:
    listed = [f"{number} {name}" for number, name in enumerate(names[:_LISTED], 1)]
    more = f", … {len(names)} {names[-1]}" if len(names) > _LISTED else ""
    return InvalidArgument(
        f"layer {spec}: not a layer of this network; valid are {', '.join(listed)}{more}"
    )


def split_spec(spec: object, names: Sequence[str], aliases: Sequence[Collection[str]]) -> Any:
    """Return (layer index, text of the maps or None) for `spec`."""
    if isinstance(spec, str) and ":" in spec:
        known = {*names, *(text for offer in aliases for text in offer)}
        if spec.strip() not in known:
            layer, _, maps = spec.rpartition(":")
            return find_layer(layer, names, aliases), maps
    return find_layer(spec, names, aliases), None


def parse_maps(maps: object, count: int, layer: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return map numbers in the order asked for.

    Parameters
    ----------
    maps : None, int, str, range, slice or iterable of int
        None stands for all; a text is like ``"3,5,8-11"``.
    count : int
        Maps of the layer; valid numbers are 0..count-1.
    layer : str
        The layer's name, for messages.
    """
    if maps is None:
        return np.arange(count)
    if isinstance(maps, slice):
        chosen: Iterable[int] = range(count)[maps]
    elif isinstance(maps, str):
        chosen = _from_text(maps, count, layer)
    elif isinstance(maps, Iterable):
        chosen = maps if isinstance(maps, range) else _from_items(maps, count, layer)
    else:
        chosen = _from_items([maps], count, layer)
    if isinstance(chosen, range) and len(chosen):
        for end in (chosen[0], chosen[-1]):
            _check(end, count, layer)
    listed = list(chosen)
    if not listed:
        raise InvalidArgument(f"maps {quote(maps)}: no map of {layer}; valid are 0..{count - 1}")
    if len(set(listed)) < len(listed):
        twice = next(m for m in listed if listed.count(m) > 1)
        raise InvalidArgument(f"maps {quote(maps)}: map {twice} of {layer} is named twice")
    return np.array(listed, np.int64)


def _from_text(text: str, count: int, layer: str) -> list[int]:
    chosen: list[int] = []
    for piece in text.split(","):
        match = _PIECE.fullmatch(piece)
        if match is None:
            raise InvalidArgument(
                f"maps {quote(text)}: {quote(piece)} is neither a map nor a range of {layer}; "
                f"valid are 0..{count - 1}, as in 0-{count - 1}"
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        _check(first, count, layer)
        _check(last, count, layer)
        if last < first:
            raise InvalidArgument(f"maps {quote(text)}: {first}-{last} must rise")
        chosen.extend(range(first, last + 1))
    return chosen


def _from_items(items: Iterable[Any], count: int, layer: str) -> list[int]:
    chosen = []
    for item in items:
        if isinstance(item, bool | np.bool_) or not hasattr(item, "__index__"):
            raise InvalidArgument(
                f"map {quote(item)}: not a whole number; valid maps of {layer} are 0..{count - 1}"
            )
        try:
            number = operator.index(item)
        except TypeError:
            raise InvalidArgument(
                f"map {quote(item)}: not a whole number; valid maps of {layer} are 0..{count - 1}"
            ) from None
        _check(number, count, layer)
        chosen.append(number)
    return chosen


def _check(number: int, count: int, layer: str) -> None:
    if not 0 <= number < count:
        raise InvalidArgument(f"map {number}: {layer} has the maps 0..{count - 1}")
