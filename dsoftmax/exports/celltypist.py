"""CellTypist's file: a pickle of a classifier, a scaler and a description.

CellTypist scales the genes, clips them at 10, and takes the class with the largest logit. The
scaler of this file changes nothing. Values of log1p of 10,000 counts a cell are below
log(1 + 10⁴) = 9.22, so nothing is clipped. The labels are those of the model. The probabilities
are not, because CellTypist takes a logistic function of each logit, and no softmax.
"""

import pickle
from pathlib import Path

import numpy as np

from dsoftmax.data.counts import Normalisation
from dsoftmax.errors import DataError
from dsoftmax.exports.files import require_free, write_bytes
from dsoftmax.exports.model import Linear, plain_labels, require_plain
from dsoftmax.exports.sklearn import identity_scaler, logistic

COUNTS = Normalisation(1e4, True)
"""Normalisation of counts that CellTypist expects."""


def to_celltypist(model: Linear, path: Path | str, overwrite: bool = False) -> None:
    """Write a model as a file that ``celltypist.annotate`` takes.

    Raises
    ------
    OptionError
        The model takes counts in another normalisation, or scikit-learn is not installed.
    DataError
        The features of the model have no names, or one name stands for two of them.
    OutputExistsError, WriteError
    """
    require_free(path, overwrite)
    require_plain(model, "CellTypist's file", counts=COUNTS)
    names = None if model.feature_names is None else [str(name) for name in model.feature_names]
    if names is None or len(set(names)) < len(names):
        found = "have no names" if names is None else "are not all different in their names"
        raise DataError(
            f"The features of the model {found}; expected a name for each gene, because "
            "CellTypist finds genes by name. Train on AnnData, or pass feature_names= to "
            "dsoftmax.Model."
        )
    labels = plain_labels(model.classes, "CellTypist's file")
    classifier = logistic(model, labels.astype(str) if labels.dtype == object else labels)
    classifier.features = np.array(names, object)
    described = {
        "date": "",
        "details": "Softmax regression by dsoftmax",
        "url": "",
        "source": "dsoftmax",
        "version": "",
        "number_celltypes": len(labels),
    }
    held = {
        "Model": classifier,
        "Scaler_": identity_scaler(len(names)),
        "description": described,
    }
    write_bytes(path, pickle.dumps(held, protocol=4), overwrite)
