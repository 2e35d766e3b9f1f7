"""The methods of a model that export it."""

from pathlib import Path
from typing import Any

from dsoftmax.exports.model import Linear


class Exports:
    """Exports of a model. The page on exports says what each format holds."""

    def to_sklearn(self: Linear) -> Any:
        """Return a fitted ``sklearn.linear_model.LogisticRegression`` with equal predictions.

        Returns
        -------
        LogisticRegression
            It has one row of coefficients for two classes. Its probabilities are equal to 1e-12
            for features in float64.

        Raises
        ------
        OptionError
            The model normalises counts, codes categories or skips rows, or scikit-learn is not
            installed.

        Examples
        --------
        >>> import numpy as np
        >>> from dsoftmax import Model
        >>> model = Model(np.array([[-1.0, 0.5], [1.0, -0.5]]), np.array(["no", "yes"]))
        >>> model.to_sklearn().predict([[0.0], [2.0]]).tolist()
        ['no', 'yes']
        """
        from dsoftmax.exports.sklearn import to_sklearn

        return to_sklearn(self, names=self.feature_names)

    def to_onnx(
        self: Linear, path: Path | str, *, dtype: str = "float64", overwrite: bool = False
    ) -> None:
        """Write an ONNX file with the input "X" and the outputs "label" and "probabilities".

        Parameters
        ----------
        path : path
            File that appears whole or not at all.
        dtype : {"float64", "float32"}, default "float64"
            Dtype of X and of the probabilities. "float32" is one ``LinearClassifier``, which
            loses digits if features are large beside their spread.
        overwrite : bool, default False
            Whether the file replaces what exists at ``path``.

        Raises
        ------
        OptionError
            As `to_sklearn`; or onnx is not installed.
        DataError
            A label is no text, boolean, float or 64-bit integer.
        OutputExistsError, WriteError
        """
        from dsoftmax.exports.onnx import to_onnx

        to_onnx(self, path, dtype, overwrite)

    def to_json(self: Linear, path: Path | str, *, overwrite: bool = False) -> None:
        """Write a JSON file. It states the steps that a reader does before the logits.

        Parameters
        ----------
        path : path
            File that appears whole or not at all.
        overwrite : bool, default False
            Whether the file replaces what exists at ``path``.

        Raises
        ------
        DataError
            A label is no text in UTF-8.
        OutputExistsError, WriteError
        """
        from dsoftmax.exports.json import to_json

        to_json(self, path, overwrite)

    def to_celltypist(self: Linear, path: Path | str, *, overwrite: bool = False) -> None:
        """Write a file for ``celltypist.annotate``, which then predicts equal labels.

        Parameters
        ----------
        path : path
            File that appears whole or not at all. It is a pickle, so it runs code when it is
            loaded: load only files that you trust.
        overwrite : bool, default False
            Whether the file replaces what exists at ``path``.

        Raises
        ------
        OptionError
            The model normalises counts otherwise than CellTypist, codes categories or skips
            rows, or scikit-learn is not installed.
        DataError
            The features have no names.
        OutputExistsError, WriteError
        """
        from dsoftmax.exports.celltypist import to_celltypist

        to_celltypist(self, path, overwrite)
