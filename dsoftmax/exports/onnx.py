"""ONNX: logits, probabilities and labels as a graph.

In float64 the graph is z = XWᵀ + b, P = softmax(z), label = classes[argmax z], from the standard
operators. In float32 it is one ``LinearClassifier`` of the domain ai.onnx.ml, which is known to
more programs. Its coefficients, features and sums are float32.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from dsoftmax.errors import OptionError, unknown_option
from dsoftmax.exports.files import require_free, write_bytes
from dsoftmax.exports.model import Linear, plain_labels, require_plain
from dsoftmax.system.units import size

DTYPES = ("float64", "float32")
OPSET, ML_OPSET, IR = 17, 1, 8
"""Versions of the operators and of the file, which onnxruntime 1.12 of 2022 already reads."""
LARGEST = 2**31 - 2**20
"""Largest size of the coefficients, in bytes: a file of protocol buffers is below 2 GiB."""
FEATURES, LABEL, PROBABILITIES = "X", "label", "probabilities"


def to_onnx(
    model: Linear, path: Path | str, dtype: str = "float64", overwrite: bool = False
) -> None:
    """Write a model as ONNX.

    Parameters
    ----------
    model : Linear
    path : path
    dtype : {"float64", "float32"}
        Dtype of the input X, (n, p), and of the probabilities, (n, K).
    overwrite : bool

    Raises
    ------
    OptionError
        The model does more than a product and softmax, or onnx is not installed.
    OutputExistsError, WriteError
    """
    if dtype not in DTYPES:
        raise unknown_option("dtype", dtype, DTYPES)
    require_free(path, overwrite)
    require_plain(model, "ONNX")
    n_bytes = model.theta.size * np.dtype(dtype).itemsize
    if n_bytes > LARGEST:
        raise OptionError(
            f"The coefficients take {size(n_bytes)}; an ONNX file holds less than 2 GiB. "
            "Pass dtype='float32' if half of it fits, or export the model as JSON."
        )
    write_bytes(path, _file(model, np.dtype(dtype)), overwrite)


def _file(model: Linear, dtype: np.dtype) -> bytes:
    """Return the bytes of the file."""
    try:
        from onnx import helper, numpy_helper
    except ImportError as error:
        raise OptionError(
            "to_onnx needs onnx; expected it to be installed. Run pip install 'dsoftmax[onnx]'."
        ) from error
    labels = plain_labels(model.classes, "ONNX")
    nodes, constants = (_exact if dtype == np.float64 else _classifier)(model, labels, helper)
    number, kind = (helper.np_dtype_to_tensor_dtype(one) for one in (dtype, labels.dtype))
    n_classes, n_features = len(model.classes), model.theta.shape[1] - 1
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "softmax_regression",
        [value(FEATURES, number, ["n", n_features])],
        [value(LABEL, kind, ["n"]), value(PROBABILITIES, number, ["n", n_classes])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, producer_name="dsoftmax", ir_version=IR)
    if model.feature_names is not None:
        names = json.dumps([str(name) for name in model.feature_names])
        helper.set_model_props(made, {"feature_names": names})
    found: bytes = made.SerializeToString()
    return found


def _exact(model: Linear, labels: Any, helper: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the nodes and the constants in float64."""
    nodes = [
        helper.make_node("MatMul", [FEATURES, "coef"], ["products"]),
        helper.make_node("Add", ["products", "intercept"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [PROBABILITIES], axis=1),
        helper.make_node("ArgMax", ["logits"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["classes", "best"], [LABEL]),
    ]
    coef = np.ascontiguousarray(model.theta[:, :-1].T)
    return nodes, {"coef": coef, "intercept": model.theta[:, -1].copy(), "classes": labels}


def _classifier(model: Linear, labels: Any, helper: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return a ``LinearClassifier``, and for labels that it cannot hold a table of them."""
    named = labels.dtype.kind in "Oi"
    held = labels.tolist() if named else list(range(len(labels)))
    node = helper.make_node(
        "LinearClassifier",
        [FEATURES],
        [LABEL if named else "best", PROBABILITIES],
        domain="ai.onnx.ml",
        coefficients=model.theta[:, :-1].astype(np.float32).ravel(),
        intercepts=model.theta[:, -1].astype(np.float32),
        post_transform="SOFTMAX",
        **{"classlabels_strings" if labels.dtype.kind == "O" else "classlabels_ints": held},
    )
    if named:
        return [node], {}
    return [node, helper.make_node("Gather", ["classes", "best"], [LABEL])], {"classes": labels}
