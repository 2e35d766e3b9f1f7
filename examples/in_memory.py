"""Data in memory: scikit-learn's answer from scikit-learn's lines.

python examples/in_memory.py
"""

import numpy as np

from dsoftmax import SoftmaxRegression


def main() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 16))
    y = np.array(["forest", "meadow", "water"])[
        (X[:, :3] + rng.gumbel(size=(20_000, 3))).argmax(axis=1)
    ]

    model = SoftmaxRegression(C=1.0).fit(X[:15_000], y[:15_000])
    print(model.status_)
    print("classes:", *model.classes_)
    print(f"F = {model.objective_:.6f} after {model.n_passes_} passes over the data")
    print(f"accuracy on unseen rows: {model.score(X[15_000:], y[15_000:]):.3f}")


if __name__ == "__main__":
    main()
