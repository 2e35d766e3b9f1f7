"""Reference optima by scikit-learn, and the passes of a solver to a gap from them."""

import numpy as np
import reference
from opening import opened
from sklearn.linear_model import LogisticRegression

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.training.loop import Settings, train


def overlapping(K, n=300, p=4, seed=3, scales=1.0):
    """Return classes that overlap, so that an optimum exists without a penalty too."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 1
    y = (X @ rng.normal(size=(p, K)) + 1.5 * rng.gumbel(size=(n, K))).argmax(axis=1)
    return X * np.asarray(scales), y


def best(X, y, C=1.0, weights=None, fit_intercept=True, solver="newton-cholesky"):
    """Return F at scikit-learn's optimum, by the literal loops, and its coefficients."""
    model = LogisticRegression(
        C=C, tol=1e-12, max_iter=1000, fit_intercept=fit_intercept, solver=solver
    )
    model.fit(X, y, weights)
    rows = np.column_stack([model.coef_, np.broadcast_to(model.intercept_, len(model.coef_))])
    theta = np.vstack([-rows / 2, rows / 2]) if len(rows) == 1 else rows
    return reference.objective(theta, X, y, weights, None, C), theta - theta.mean(axis=0)


def history(
    solver, X, y, C=1.0, weights=None, fit_intercept=True, tol=1e-9, max_iter=200, dtype=None
):
    """Return the result of a run."""
    settings = Settings(
        C=C, solver=solver, tol=tol, max_iter=max_iter, fit_intercept=fit_intercept, dtype=dtype
    )
    return train(opened(X, y, weights), SerialEngine(), settings)


def passes_to(result, least, gap):
    """Return the first pass after which F is within a relative gap of the least."""
    return next(
        record.pass_ for record in result.history if record.objective - least <= gap * abs(least)
    )
