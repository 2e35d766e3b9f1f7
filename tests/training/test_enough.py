"""The limit that a refusal names is enough for all passes, at once."""

import re

import pytest
import zarr

from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import MemoryLimitError
from dsoftmax.training.enough import require_enough
from dsoftmax.training.loop import train
from dsoftmax.training.prepare import prepare
from dsoftmax.training.settings import Settings


@pytest.mark.parametrize(("n_classes", "n_features"), [(2, 40), (7, 12)])
def test_a_training_fits_in_the_first_limit_that_is_named(n_classes, n_features, tmp_path, rng):
    X = rng.integers(0, 100, (40_000, n_features)).astype("f4")
    y = rng.integers(0, n_classes, len(X))
    group = zarr.create_group(tmp_path / "data")
    group.create_array("X", data=X, chunks=(40_000, n_features))
    source = open_source(Table(group["X"], y))
    settings = Settings(max_iter=2)

    def again(limit):
        return prepare(source, settings, memory_limit=limit)

    small = 64 * 2**20
    with pytest.raises(MemoryLimitError) as refused:
        require_enough(again(small), small, again)
    limit = int(re.findall(r"Allow at least ([\d,]+) MiB", str(refused.value))[0].replace(",", ""))
    limit *= 2**20
    require_enough(again(limit), limit, again)
    assert train(source, ThreadsEngine(1, memory_limit=limit), settings).history
