"""Settings and grid from the options of `train` and `inspect`."""

from typing import Any

import numpy as np

from dsoftmax.cli.labels import typed_labels
from dsoftmax.cli.options import SCORINGS
from dsoftmax.errors import OptionError
from dsoftmax.training.grid import Grid
from dsoftmax.training.settings import Settings


def make_settings(
    label_dtype: np.dtype,
    *,
    C: tuple[float, ...],
    l1_ratio: float,
    solver: str,
    tol: float,
    max_iter: int,
    no_intercept: bool,
    class_weight: str | None,
    classes: str | None,
    dtype: str | None,
    kernel: str,
    validation_fraction: float | None,
    n_iter_no_change: int,
    scale: str | None,
    folds: int | None,
    fold_column: str | None,
    scoring: str | None,
    grouped: bool = False,
    validated: bool = False,
) -> tuple[Settings, Grid | None]:
    """Return the settings that the options name, and the grid of a cross-validation.

    Parameters
    ----------
    label_dtype : numpy dtype
        Dtype of the stored labels. The labels that are typed become this dtype.
    grouped : bool
        Whether the rows have groups.
    validated : bool
        Whether a validation set is given.

    Returns
    -------
    Settings
    Grid or None
        None without ``folds``.

    Raises
    ------
    OptionError
    """
    if len(C) > 1 and folds is None:
        raise OptionError(
            f"--C names {len(C)} values, and nothing chooses among them. "
            "Pass --folds N too, or one value."
        )
    if scoring is not None and folds is None:
        raise OptionError("--scoring does nothing without --folds. Pass both, or neither.")
    if fold_column is not None and folds is None:
        raise OptionError(
            "--fold-column does nothing without --folds. Pass the number of folds too, or leave "
            "out --fold-column."
        )
    if grouped and folds is None and validation_fraction is None:
        raise OptionError(
            "--groups does nothing without --folds or --validation-fraction. "
            "Pass one of them too, or leave out --groups."
        )
    settings = Settings(
        C=C[0],
        l1_ratio=l1_ratio,
        solver=solver,
        tol=tol,
        max_iter=max_iter,
        fit_intercept=not no_intercept,
        class_weight=_class_weight(class_weight, label_dtype),
        classes=None
        if classes is None
        else typed_labels(classes.split(","), label_dtype, "--classes"),
        dtype=dtype,
        kernel=kernel,
        validation_fraction=validation_fraction,
        n_iter_no_change=n_iter_no_change,
        scale=scale,
    )
    grid = None
    if folds is not None:
        scored = SCORINGS[scoring or "accuracy"]
        grid = Grid(np.sort(np.array(C)), folds, scored, fold_column is not None)
    if grid is not None:
        grid.check("--C", "--folds")
    settings.check()
    if grid is not None and validation_fraction is not None:
        raise OptionError(
            "--validation-fraction and --folds both hold out rows. Pass only one of them."
        )
    if validated and (folds is not None or validation_fraction is not None):
        other = "--folds" if validation_fraction is None else "--validation-fraction"
        raise OptionError(
            f"--validation and {other} both choose a validation set. Pass only one of them."
        )
    return settings, grid


def _class_weight(text: str | None, dtype: np.dtype) -> Any:
    """Return class weights as `Settings` takes them: None, "balanced", or a dict by label."""
    if text is None or text == "balanced":
        return text
    pairs = [pair.rpartition("=") for pair in text.split(",")]
    try:
        weights = [float(weight) for label, equals, weight in pairs if label and equals]
    except ValueError:
        weights = []
    if len(weights) < len(pairs):
        raise OptionError(
            f"--class-weight is {text!r}; expected balanced, or label=weight,label=weight."
        )
    labels = typed_labels([label for label, _, _ in pairs], dtype, "--class-weight")
    return dict(zip(labels.tolist(), weights, strict=True))
