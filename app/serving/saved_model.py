"""The signatures of a SavedModel, read without TensorFlow.

`saved_model.pb` is a Protocol Buffer. Of its messages only the few fields below are read, by their
numbers in TensorFlow's `saved_model.proto`, `meta_graph.proto` and `tensor_shape.proto`. The graph,
which is nearly all of the file, is skipped in one step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import UnusableVersion

SAVED_MODEL: Final = "saved_model.pb"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_META_GRAPH, _SIGNATURE = 2, 5  # of SavedModel, and of MetaGraphDef
_KEY, _VALUE = 1, 2  # of an entry of a map
_INPUTS, _OUTPUTS, _METHOD = 1, 2, 3  # of SignatureDef
_NAME, _TYPE, _SHAPE = 1, 2, 3  # of TensorInfo
_DIMENSION, _UNKNOWN_RANK = 2, 3  # of TensorShapeProto
_SIZE, _DIMENSION_NAME = 1, 2  # of TensorShapeProto.Dim
_SIGN_BIT: Final = 1 << 63
_MAX_VARINT_BITS: Final = 70


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a signature.

    Attributes:
        name: In the graph.
        type: The number of its type in `types.proto`: 1 is float32, 3 int32, 7 string.
        shape: Its sizes and their names; -1 is a variable size. None for an unknown rank.
    """

    name: str
    type: int
    shape: tuple[tuple[int, str], ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """One function of a SavedModel.

    Attributes:
        inputs: By key.
        outputs: By key.
        method: Such as `tensorflow/serving/predict`.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    method: str


def read_signatures(folder: Path) -> dict[str, Signature]:
    """The signatures of the SavedModel in a folder, by name.

    Raises:
        UnusableVersion: The file cannot be read, or is no SavedModel.
    """
    try:
        data = memoryview((folder / SAVED_MODEL).read_bytes())
        return {
            name: _read_signature(message)
            for graph in _messages(data, _META_GRAPH)
            for name, message in _entries(graph, _SIGNATURE)
        }
    except OSError as error:
        raise UnusableVersion(f"{SAVED_MODEL} cannot be read: {error.strerror}") from error
    except (ValueError, IndexError) as error:
        raise UnusableVersion(f"{SAVED_MODEL} must be a SavedModel") from error


def _read_signature(message: memoryview) -> Signature:
    return Signature(
        {key: _read_tensor(tensor) for key, tensor in _entries(message, _INPUTS)},
        {key: _read_tensor(tensor) for key, tensor in _entries(message, _OUTPUTS)},
        _text(message, _METHOD),
    )


def _read_tensor(message: memoryview) -> Tensor:
    shape: tuple[tuple[int, str], ...] | None = ()
    for part in _messages(message, _SHAPE):
        sizes = (
            (_number(d, _SIZE), _text(d, _DIMENSION_NAME)) for d in _messages(part, _DIMENSION)
        )
        shape = None if _number(part, _UNKNOWN_RANK) else tuple(sizes)
    return Tensor(_text(message, _NAME), _number(message, _TYPE), shape)


def _entries(message: memoryview, field: int) -> Iterator[tuple[str, memoryview]]:
    """The entries of a map with messages for values, in the order of their keys."""
    found = {_text(e, _KEY): next(_messages(e, _VALUE), e[:0]) for e in _messages(message, field)}
    yield from sorted(found.items())


def _messages(message: memoryview, field: int) -> Iterator[memoryview]:
    """The values of a field that is a message or a string."""
    for number, value in _fields(message):
        if number == field and isinstance(value, memoryview):
            yield value


def _text(message: memoryview, field: int) -> str:
    """The value of a string; empty if it is not there."""
    return next((str(value, "utf-8") for value in _messages(message, field)), "")


def _number(message: memoryview, field: int) -> int:
    """The value of a number; 0 if it is not there."""
    values = (value for number, value in _fields(message) if number == field)
    value = next((v for v in values if isinstance(v, int)), 0)
    return value - 2 * _SIGN_BIT if value & _SIGN_BIT else value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: numbers, and slices of it for messages and strings.

    Raises:
        ValueError, IndexError: It is no message.
    """
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            number, at = _read_varint(message, at)
            yield tag >> 3, number
        elif kind == _BYTES:
            size, at = _read_varint(message, at)
            if at + size > len(message):
                raise ValueError
            yield tag >> 3, message[at : at + size]
            at += size
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first; returns where it ends, too."""
    number = 0
    for shift in range(0, _MAX_VARINT_BITS, 7):
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError
