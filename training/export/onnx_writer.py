"""`GraphWriter`: an ONNX graph written node by node, in the order of computation."""

from hashlib import sha256
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app import __version__

_OPSET: Final = 18  # the first in which ScatterElements can keep the largest


_IR_VERSION: Final = 8  # the one that came with it: no reader has to be newer than that


_MICROSOFT: Final = "com.microsoft"  # ONNX Runtime's own operators, of which one is quantized


Value = str | NDArray[Any]
"""What goes into a node: the name of a tensor of the graph, or a constant."""


class GraphWriter:
    """Collects nodes and constants. The same calls give the same bytes."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[Any, ...], onnx.TensorProto] = {}
        self._added: dict[tuple[Any, ...], str] = {}

    def add(
        self,
        operator: str,
        *inputs: Value,
        microsoft: bool = False,
        output: int = 0,
        **attributes: Any,
    ) -> str:
        """Append a node, unless there is the same already.

        Args:
            operator: As ONNX names it.
            inputs: In the operator's order; "" leaves out an optional one.
            microsoft: Whether the operator is one of ONNX Runtime's own.
            output: Which of its outputs is wanted, from 0; the others are left out.
            attributes: Of the operator.

        Returns:
            The name of that output.
        """
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        options = sorted((name, str(value)) for name, value in attributes.items())
        key = (operator, microsoft, output, *names, *options)
        if key in self._added:
            return self._added[key]
        name = f"{operator.lower()}_{len(self._nodes)}"
        outputs = [""] * output + [name]
        domain = _MICROSOFT if microsoft else ""
        self._nodes.append(
            helper.make_node(operator, names, outputs, name=name, domain=domain, **attributes)
        )
        self._added[key] = name
        return name

    def _constant(self, value: NDArray[Any]) -> str:
        key = (value.dtype.str, value.shape, sha256(value.tobytes()).digest())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return self._constants[key].name

    def finish(self, probabilities: str, classes: int) -> onnx.ModelProto:
        """The graph from `ids` and `lengths` to the tensor `probabilities`, checked.

        Raises:
            onnx.checker.ValidationError: It is no valid graph.
        """
        self._nodes.append(helper.make_node("Identity", [probabilities], ["probabilities"]))
        graph = helper.make_graph(
            self._nodes,
            "valence",
            [
                helper.make_tensor_value_info("ids", TensorProto.INT32, ["batch", "width"]),
                helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
            ],
            [
                helper.make_tensor_value_info(
                    "probabilities", TensorProto.FLOAT, ["batch", classes]
                ),
            ],
            list(self._constants.values()),
        )
        operators = [helper.make_opsetid("", _OPSET)]
        if any(node.domain for node in self._nodes):
            operators.append(helper.make_opsetid(_MICROSOFT, 1))
        model = helper.make_model(
            graph,
            producer_name="valence",
            producer_version=__version__,
            opset_imports=operators,
            ir_version=_IR_VERSION,
        )
        onnx.checker.check_model(model)
        return model


def integers(*values: int) -> NDArray[np.int64]:
    """Axes, sizes and their like, as ONNX wants them."""
    return np.array(values, np.int64)
