"""Compiled functions of vectors, and the machine code on disk."""

import numpy as np
import pytest
from compiled_cases import NEEDS_NUMBA

from dsoftmax.kernels.softmax import LOWEST

pytestmark = NEEDS_NUMBA


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_exp_and_log1p_are_as_precise_as_they_say(dtype):
    from numba import njit

    from dsoftmax.kernels.compiled.simd import exp, load, log1p, store

    @njit
    def each(values, exps, logs, lanes):
        for i in range(0, len(values), lanes):
            store(exps, i, exp(load(values, i)))
            store(logs, i, log1p(load(values, i) * load(values, i)))

    lowest = LOWEST[np.dtype(dtype)]
    values = -np.concatenate(
        [np.linspace(0, -lowest, 40_000), np.logspace(-15, 1.9, 40_000)]
    ).astype(dtype)
    exps, logs = np.empty_like(values), np.empty_like(values)
    each(values, exps, logs, 32 // values.itemsize)
    above = values >= lowest
    wide = values.astype(np.longdouble)
    squares = (values * values).astype(np.longdouble)
    ulp = np.abs(exps - np.exp(wide))[above] / np.spacing(np.exp(wide).astype(dtype))[above]
    assert ulp.max() < 1.5
    assert exps[0] == 1
    assert np.all(exps[~above] == 0)
    some = squares > np.finfo(dtype).tiny
    assert (
        np.abs(logs - np.log1p(squares))[some] / np.spacing(np.log1p(squares).astype(dtype))[some]
    ).max() < 3


def test_machine_code_of_other_sources_is_not_used(tmp_path):
    from dsoftmax.kernels.compiled.compile import forget_stale

    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("dense.narrow-1.py311.nbi", "dense.narrow-1.py311.1.nbc", "notes.txt"):
        (folder / name).write_text("old")
    forget_stale(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["dsoftmax-fused.sources", "notes.txt"]
    (folder / "dense.narrow-1.py311.nbi").write_text("new")
    forget_stale.cache_clear()
    forget_stale(str(folder))
    assert (folder / "dense.narrow-1.py311.nbi").exists()
    (folder / "dsoftmax-fused.sources").write_text("of another version")
    forget_stale.cache_clear()
    forget_stale(str(folder))
    assert not (folder / "dense.narrow-1.py311.nbi").exists()
