"""One attempt at a pass: the tasks that carry out the commands of `Dispatch`, and their futures."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from distributed import Client, Future

from dsoftmax.compat.distributed import LOST, cancel, dumps, gathered, loads, submit
from dsoftmax.data.source import Source
from dsoftmax.engines.cluster.deal import Piece
from dsoftmax.engines.cluster.dispatch import Ask, Cancel, Command, Dispatch
from dsoftmax.engines.cluster.placement import Placed, stored_parts
from dsoftmax.engines.cluster.tree import add_in_tree
from dsoftmax.engines.cluster.waiting import Waiting, ready
from dsoftmax.engines.cluster.worker import VisitTask, visit_lent, visit_piece
from dsoftmax.engines.visit import Visit
from dsoftmax.errors import DsoftmaxError, MemoryLimitError
from dsoftmax.sums.totals import Totals

INLINE_BYTES = 32 * 1024
"""Largest visit that is sent with each task, in bytes. A larger one is the result of a task of
its own."""


@dataclass
class Counts:
    """Counts over all passes of an engine.

    Attributes
    ----------
    tasks : int
        Number of tasks submitted for passes: visits, merges and points.
    attempts : int
        Number of attempts at passes, lost ones included.
    stolen : int
        Number of pieces that were stolen, or duplicated to another worker.
    """

    tasks: int = 0
    attempts: int = 0
    stolen: int = 0


class Attempt:
    """One attempt at a pass.

    Parameters
    ----------
    waiting : Waiting
    counts : Counts
    key : str
        Part of the keys of all tasks.
    source : Source
    visit : Visit
    team : sequence of Placed
        The shares of the workers.
    """

    def __init__(
        self,
        waiting: Waiting,
        counts: Counts,
        key: str,
        source: Source,
        visit: Visit,
        team: Sequence[Placed],
    ) -> None:
        self.client: Client = waiting.client
        self.waiting, self.counts = waiting, counts
        self.key, self.source, self.visit = key, source, visit
        self.team = {one.hand.address: one for one in team}
        self._point: Any = visit
        self._tasks: Mapping[str, VisitTask] = {}
        self._requests: dict[int, Future] = {}
        self._futures: list[Future] = []

    @property
    def _anywhere(self) -> dict[str, Any]:
        """Options of a task that any worker of the team may run."""
        return {"workers": list(self.team), "allow_other_workers": True}

    def send_point(self) -> None:
        """Make a large visit the result of a task, which workers fetch from each other."""
        if len(self.team) < 2 or len(packed := dumps(self.visit)) <= INLINE_BYTES:
            return
        as_array = np.frombuffer(
            packed, np.uint8
        )  # dask sends arrays as they are, but pickles bytes
        key = f"dsoftmax-point-{self.key}"
        self._point = submit(self.client, loads, as_array, key=key, **self._anywhere)
        self._futures.append(self._point)
        self.counts.tasks += 1

    def visit_all(
        self,
        dispatch: Dispatch,
        tasks: Mapping[str, VisitTask],
        note: Callable[[Piece, str, float], None],
    ) -> list[Future]:
        """Have all pieces visited, and return the futures of their totals.

        Parameters
        ----------
        dispatch : Dispatch
        tasks : mapping from str to VisitTask
            Task of each worker's whole share, by its address.
        note : callable
            Called with each piece that is done, the name of its worker, and the seconds it took.
        """
        self._tasks = tasks
        self._carry_out(dispatch.start(time.monotonic()))
        while not dispatch.finished:
            running = [self._requests[request] for request in dispatch.running]
            self.waiting.once(running, self.team, first=dispatch.wants_each)
            for request in [one for one in dispatch.running if self._requests[one].done()]:
                # A request of this wait may be cancelled by the answer of another one.
                if (one := dispatch.running.get(request)) is None:
                    continue
                future, now = self._requests[request], time.monotonic()
                if future.status == "finished":
                    note(one.piece, self.team[one.worker].hand.name, now - one.since)
                    commands = dispatch.done(request, now)
                else:
                    commands = dispatch.failed(request, self._is_recoverable(future), now)
                self._carry_out(commands)
            if dispatch.has_waited(now := time.monotonic()):
                self._carry_out(dispatch.tick(ready(self.waiting.present()), now))
        return [self._requests[request] for request in dispatch.counted]

    def add(self, results: Sequence[Future], sums: int) -> Totals:
        """Add the totals of all pieces: on the workers if they are many or large, the rest here.

        Parameters
        ----------
        results : sequence of Future
        sums : int
            Number of float64 entries of each.
        """
        top, merges = add_in_tree(self.client, results, sums, self.key, self._anywhere)
        self.counts.tasks += len(merges)
        self._futures += merges
        self.waiting.for_all(top, self.team, self.waiting.timeout)
        first, *others = gathered(self.client, top, self.waiting.timeout)
        for other in others:
            first.merge(other)
        return first

    def cancel(self) -> None:
        """Cancel all tasks."""
        cancel(self.client, self._futures)

    def release(self) -> None:
        """Release all futures now, because tracebacks that refer to them may live long."""
        for future in self._futures:
            future.release()

    def _carry_out(self, commands: Sequence[Command]) -> None:
        for command in commands:
            if isinstance(command, Ask):
                future = self._requests[command.request] = self._asked(command)
                self._futures.append(future)
                self.counts.tasks += 1
                self.counts.stolen += command.lent
            elif isinstance(command, Cancel):
                cancel(self.client, [self._requests[command.request]])
            else:
                self._requests[command.request].result(timeout=self.waiting.timeout)
                raise ConnectionError("a piece was lost")

    def _asked(self, ask: Ask) -> Future:
        """Submit the visit of a piece."""
        piece, owner = ask.piece, self.team[ask.piece.owner]
        task = replace(self._tasks[piece.owner], start=piece.start, stop=piece.stop)
        key = f"dsoftmax-visit-{self.key}-{ask.request}"
        where = {"workers": [ask.worker], "allow_other_workers": True, "key": key}
        if not (ask.lent or ask.duplicate):
            return submit(self.client, visit_piece, self._point, owner.cached, task, **where)
        # The task carries everything with it that only the owner has.
        chunks = owner.hand.chunks[piece.start : piece.stop]
        share = self.source.share(chunks.tolist())
        stored = stored_parts(self.source, chunks, owner.on_cluster)
        task = replace(task, start=0, stop=len(chunks))
        point = self.visit if ask.duplicate else self._point
        return submit(self.client, visit_lent, point, share, chunks, stored, task, **where)

    def _is_recoverable(self, future: Future) -> bool:
        """Return whether a piece that failed may succeed on another worker."""
        try:
            future.result(timeout=self.waiting.timeout)
        except MemoryLimitError:
            return True
        except DsoftmaxError:
            return False
        except LOST:
            return True
        except Exception:
            return False
        return True
