"""What is written by Zarr leaves nothing behind when it is interrupted."""

import asyncio
import shutil
import signal
import threading
import time

import numpy as np
import pytest
from opening import opened
from zarr.storage import LocalStore

from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.results.model import Model
from dsoftmax.results.stored_model import save_model
from dsoftmax.results.stored_predictions import write_predictions

MODEL = Model(np.zeros((3, 5)), np.arange(3))


def model(path):
    save_model(MODEL, path)


def predictions(path, n_threads=2):
    source = opened(np.ones((10, 4)), np.zeros(10, int))
    write_predictions(MODEL, source, path, engine=ThreadsEngine(n_threads))


def predictions_by_one_thread(path):
    predictions(path, 1)


@pytest.fixture
def interrupt_at(monkeypatch):
    """Return a function that interrupts the main thread in the middle of a write of Zarr."""
    write, begun = LocalStore.set, []

    def of_number(number):
        async def slowly(self, key, value):
            begun.append(key)
            if len(begun) == number:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                await asyncio.sleep(0.3)
            await write(self, key, value)

        monkeypatch.setattr(LocalStore, "set", slowly)
        return begun

    return of_number


@pytest.mark.parametrize("write", [model, predictions, predictions_by_one_thread])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_interrupt_while_zarr_writes_leaves_no_draft(write, number, tmp_path, interrupt_at):
    begun = interrupt_at(number)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out.zarr")
    time.sleep(0.6)  # what Zarr wrote now would stay for ever
    assert list(tmp_path.iterdir()) == []
    assert len(begun) >= number


def test_an_interrupt_while_the_old_predictions_are_removed_leaves_none_of_them(
    tmp_path, monkeypatch
):
    path, remove = tmp_path / "out.zarr", shutil.rmtree
    predictions(path)

    def disturbed(folder, **options):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.2)
        remove(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", disturbed)
    source = opened(np.ones((10, 4)), np.zeros(10, int))
    with pytest.raises(KeyboardInterrupt):
        write_predictions(MODEL, source, path, overwrite=True)
    assert list(tmp_path.iterdir()) == [path]
