"""The formulas as literal Python loops in float64, from the definitions.

They are slow, and meant to be read.

x̃ᵢ = [xᵢ, 1]; row k of θ belongs to class k, the intercept last.
"""

import math

import numpy as np
import scipy.sparse


def rows_of(X):
    """Return the rows of X as lists of floats; duplicate entries of a sparse array are added."""
    if scipy.sparse.issparse(X):
        rows = [[0.0] * X.shape[1] for _ in range(X.shape[0])]
        for i in range(X.shape[0]):
            for place in range(X.indptr[i], X.indptr[i + 1]):
                rows[i][int(X.indices[place])] += float(X.data[place])
        return rows
    return [[float(X[i, j]) for j in range(X.shape[1])] for i in range(X.shape[0])]


def weight(weights, i):
    return 1.0 if weights is None else float(weights[i])


def logits(theta, x):
    """z_k = θ⁽ᵏ⁾ᵀx + b_k."""
    return [
        math.fsum([*(float(t) * v for t, v in zip(row[:-1], x, strict=True)), float(row[-1])])
        for row in theta
    ]


def probabilities(theta, x):
    """P_k = exp z_k / Σ_j exp z_j."""
    z = logits(theta, x)
    top = max(z)
    e = [math.exp(one - top) for one in z]
    return [one / math.fsum(e) for one in e]


def value(theta, X, y, weights=None):
    """J = −Σᵢ sᵢ Σₖ 1{yᵢ=k} log Pᵢₖ."""
    terms = []
    for i, x in enumerate(rows_of(X)):
        z = logits(theta, x)
        top = max(z)
        terms.append(
            weight(weights, i)
            * (top + math.log(math.fsum(math.exp(one - top) for one in z)) - z[int(y[i])])
        )
    return math.fsum(terms)


def gradient(theta, X, y, weights=None):
    """∇_{θ⁽ᵏ⁾} J = −Σᵢ sᵢ x̃ᵢ (1{yᵢ=k} − Pᵢₖ)."""
    K, d = len(theta), len(theta[0])
    rows = rows_of(X)
    P = [probabilities(theta, x) for x in rows]
    out = np.zeros((K, d))
    for k in range(K):
        for j in range(d):
            terms = []
            for i, x in enumerate(rows):
                indicator = 1.0 if int(y[i]) == k else 0.0
                terms.append(-weight(weights, i) * [*x, 1.0][j] * (indicator - P[i][k]))
            out[k, j] = math.fsum(terms)
    return out


def hessian(theta, X, weights=None):
    """H_{ka,lc} = Σᵢ sᵢ (1{k=l} Pᵢₖ − Pᵢₖ Pᵢₗ) x̃ᵢₐ x̃ᵢ꜀."""
    K, d = len(theta), len(theta[0])
    rows = rows_of(X)
    P = [probabilities(theta, x) for x in rows]
    out = np.zeros((K * d, K * d))
    for k in range(K):
        for a in range(d):
            for m in range(K):
                for c in range(d):
                    terms = []
                    for i, x in enumerate(rows):
                        same = P[i][k] if k == m else 0.0
                        terms.append(
                            weight(weights, i)
                            * (same - P[i][k] * P[i][m])
                            * [*x, 1.0][a]
                            * [*x, 1.0][c]
                        )
                    out[k * d + a, m * d + c] = math.fsum(terms)
    return out


def hessian_product(theta, V, X, weights=None):
    """(H V)_{ka} = Σ_{l,c} H_{ka,lc} V_{lc}."""
    H = hessian(theta, X, weights)
    K, d = len(theta), len(theta[0])
    flat = [float(V[k][a]) for k in range(K) for a in range(d)]
    return np.array(
        [math.fsum(H[r, c] * flat[c] for c in range(K * d)) for r in range(K * d)]
    ).reshape(K, d)


def total_weight(y, weights, class_weights):
    """S = Σᵢ wᵢ c of the label."""
    return math.fsum(
        weight(weights, i) * (1.0 if class_weights is None else class_weights[int(y[i])])
        for i in range(len(y))
    )


def row_weights(y, weights, class_weights):
    """sᵢ = wᵢ c of the label."""
    return [
        weight(weights, i) * (1.0 if class_weights is None else class_weights[int(y[i])])
        for i in range(len(y))
    ]


def objective(theta, X, y, weights=None, class_weights=None, C=1.0):
    """F = J_s/S + ‖θ‖²/(2CS), intercepts free; two classes: C/2."""
    K = len(theta)
    S = total_weight(y, weights, class_weights)
    strength = 0.0 if math.isinf(C) else 1 / ((C / 2 if K == 2 else C) * S)
    square = math.fsum(float(t) ** 2 for row in theta for t in row[:-1])
    return value(theta, X, y, row_weights(y, weights, class_weights)) / S + 0.5 * strength * square


def objective_gradient(theta, X, y, weights=None, class_weights=None, C=1.0, fit_intercept=True):
    """∇F; zero for intercepts that are not fitted."""
    K, d = len(theta), len(theta[0])
    S = total_weight(y, weights, class_weights)
    strength = 0.0 if math.isinf(C) else 1 / ((C / 2 if K == 2 else C) * S)
    out = gradient(theta, X, y, row_weights(y, weights, class_weights)) / S
    for k in range(K):
        for j in range(d - 1):
            out[k, j] += strength * float(theta[k][j])
        if not fit_intercept:
            out[k, d - 1] = 0.0
    return out


def elastic_net(theta, C, l1_ratio, S):
    """(1/(CS))·[(1−ρ)/2·‖W‖² + ρ‖W‖₁], intercepts free."""
    squares = math.fsum(float(t) ** 2 for row in theta for t in row[:-1])
    sizes = math.fsum(abs(float(t)) for row in theta for t in row[:-1])
    return ((1 - l1_ratio) / 2 * squares + l1_ratio * sizes) / (C * S)


def five_point(f, h=1e-3):
    """f′(0) by the five-point stencil, error O(h⁴)."""
    return (f(-2 * h) - 8 * f(-h) + 8 * f(h) - f(2 * h)) / (12 * h)


def place(number):
    """Return SplitMix64 of a row or group number, with 0x5DEECE66D steps added, as a part of 1."""
    mask = 2**64 - 1
    z = (number + 0x5DEECE66D + 1) * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return ((z ^ z >> 31) >> 11) / 2**53


def fold(number, n):
    """Return which of n folds holds a row or a group out."""
    return math.floor(place(number) * n)
