"""Reports of a visit that runs, from workers to the engine of their run, on a topic of dask."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from distributed import Client, Worker

from dsoftmax.sums.work import Done, Meter

TICK = 0.5
"""Time between two reports of a visit, in seconds."""
TOPIC = "dsoftmax"
"""Topic of all reports of all runs: the scheduler stores the last events of every topic as long
as it lives."""


class Reporter:
    """Report every `TICK` seconds what the visits of this process have done.

    One thread reports for all visits.
    """

    def __init__(self) -> None:
        self._visits: dict[int, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def reporting(self, worker: Worker, run: str, number: int, meter: Meter) -> Iterator[None]:
        """Report while a visit runs; no report is sent after the visit has ended.

        Parameters
        ----------
        worker : distributed.Worker
        run : str
            Name of the engine's run.
        number : int
            Number of the pass in the run.
        meter : Meter
            Counts what the visit does.
        """
        told = {"run": run, "pass": number, "name": str(worker.name)}  # dask adds "worker"

        def report() -> None:
            with suppress(Exception):  # a worker that closes has nobody to report to
                worker.log_event(TOPIC, {**told, "done": vars(meter.done)})

        with self._changed:
            self._visits[id(meter)] = report
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="dsoftmax-report", daemon=True
                )
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._visits[id(meter)]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._visits)
            time.sleep(TICK)
            with self._changed:
                for report in self._visits.values():
                    report()


reporter = Reporter()
"""The reporter of this process."""


class Listener(Protocol):
    """Hears the reports of one run."""

    def heard(self, number: int, worker: str, done: Done) -> None:
        """Take the report of a worker's visit in pass ``number``, on the client's own thread."""


_listeners: weakref.WeakValueDictionary[str, Listener] = weakref.WeakValueDictionary()
"""Listeners by run. A client never forgets the handlers of its topics, so that handlers must
not refer to an engine."""


def listen(client: Client, run: str, listener: Listener) -> None:
    """Let a listener hear the reports of a run.

    Call this before each pass: a scheduler that was restarted knows of no subscription.
    """
    _listeners[run] = listener
    client.subscribe_topic(TOPIC, _heard)


def forget(run: str) -> None:
    """Drop the reports of a run that come from now on."""
    _listeners.pop(run, None)


def _heard(event: tuple[float, dict[str, Any]]) -> None:
    _, told = event
    listener = _listeners.get(told["run"])
    if listener is not None:
        listener.heard(told["pass"], told["name"], Done(**told["done"]))
