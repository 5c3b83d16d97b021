"""`GraphWriter` builds an ONNX graph node by node, in the order of computation.

It is here, and not in `training.export`, because every layer has a function that writes its nodes.
"""

from hashlib import sha256
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app import __version__

FLOAT: Final = TensorProto.FLOAT
INT32: Final = TensorProto.INT32
"""Element types, for the attribute `to` of `Cast`."""

_OPSET: Final = 18  # the first whose ScatterElements has the reduction "max"
_IR_VERSION: Final = 8  # released with opset 18, so older readers still load the file
_MICROSOFT: Final = "com.microsoft"  # the domain of ONNX Runtime's own operators

Value = str | NDArray[Any]
"""An input of a node: the name of a tensor in the graph, or a constant."""


class GraphWriter:
    """Collects nodes and constants, each of them once.

    Names are counted, so the same calls in the same order give the same bytes.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[Any, ...], onnx.TensorProto] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def add(
        self,
        operator: str,
        *inputs: Value,
        microsoft: bool = False,
        output: int = 0,
        **attributes: Any,
    ) -> str:
        """Add a node, or reuse an equal one.

        Args:
            operator: The operator's ONNX name.
            inputs: In the operator's order; "" leaves out an optional input.
            microsoft: Whether it is one of ONNX Runtime's own operators.
            output: Index of the output to use; the others are left unnamed.
            attributes: The operator's attributes.

        Returns:
            The name of that output.
        """
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        options = sorted((name, str(value)) for name, value in attributes.items())
        key = (operator, microsoft, output, *names, *options)
        if key in self._names:
            return self._names[key]
        name = f"{operator.lower()}_{len(self._nodes)}"
        outputs = [""] * output + [name]
        domain = _MICROSOFT if microsoft else ""
        self._nodes.append(
            helper.make_node(operator, names, outputs, name=name, domain=domain, **attributes)
        )
        self._names[key] = name
        return name

    def _constant(self, value: NDArray[Any]) -> str:
        key = (value.dtype.str, value.shape, sha256(value.tobytes()).digest())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return self._constants[key].name

    def finish(self, probabilities: str, classes: int) -> onnx.ModelProto:
        """Return the checked model from `ids` and `lengths` to the tensor `probabilities`.

        Raises:
            onnx.checker.ValidationError: The graph is invalid.
        """
        self._nodes.append(helper.make_node("Identity", [probabilities], ["probabilities"]))
        inputs = [
            helper.make_tensor_value_info("ids", INT32, ["batch", "width"]),
            helper.make_tensor_value_info("lengths", INT32, ["batch"]),
        ]
        outputs = [helper.make_tensor_value_info("probabilities", FLOAT, ["batch", classes])]
        constants = list(self._constants.values())
        operators = [helper.make_opsetid("", _OPSET)]
        if any(node.domain for node in self._nodes):
            operators.append(helper.make_opsetid(_MICROSOFT, 1))
        model = helper.make_model(
            helper.make_graph(self._nodes, "valence", inputs, outputs, constants),
            producer_name="valence",
            producer_version=__version__,
            opset_imports=operators,
            ir_version=_IR_VERSION,
        )
        onnx.checker.check_model(model)
        return model


def integers(*values: int) -> NDArray[np.int64]:
    """Axes, sizes and shapes as an int64 constant, which is the type ONNX requires for them."""
    return np.array(values, np.int64)


def add_positions(graph: GraphWriter) -> str:
    """0, 1, 2, ... for each column of `ids`: int32 (width,)."""
    width = graph.add("Squeeze", graph.add("Shape", "ids", start=1, end=2), integers(0))
    width = graph.add("Cast", width, to=INT32)
    return graph.add("Range", np.array(0, np.int32), width, np.array(1, np.int32))


def add_real_steps(graph: GraphWriter, lengths: str) -> str:
    """Whether each step of a row is before the row's length: bool (batch, width)."""
    positions = add_positions(graph)
    return graph.add("Less", positions, graph.add("Unsqueeze", lengths, integers(1)))
