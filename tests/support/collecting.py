"""Statistics for tests: the first pass with what a test names, and defaults for the rest."""

import numpy as np

from dsoftmax.data.source import n_rows
from dsoftmax.first_pass.labels import Encoder, given_classes
from dsoftmax.first_pass.visit import Collect, gram_part
from dsoftmax.training.first_pass import collect_statistics


def collected(engine, source, classes=None, gram="", draw=None, scaled=False):
    """The statistics of a source. ``gram`` is "exact", "estimate" or ""; CSR has no Gram matrix."""
    shares = {"exact": 1.0, "estimate": gram_part(source.n_features, n_rows(source))}
    share = 0.0 if source.sparse else shares.get(gram, 0.0)
    encoder = None if classes is None else Encoder(given_classes(classes))
    visit = Collect(share, encoder, draw, scaled=scaled)
    return collect_statistics(source, engine, visit)[0]


def gram_of(X, w):
    """Return Σ wᵢ[xᵢ, 1][xᵢ, 1]ᵀ."""
    Xa = np.column_stack([X, np.ones(len(X))])
    return (Xa.T * w) @ Xa
