"""Which worker is asked for which piece, and when a piece is stolen or duplicated.

`Dispatch` is a state machine without input and output. It is told what happened and at which
time, and returns commands: `Ask` a worker for a piece, `Cancel` a request, `GiveUp` the pass.
It reads no clock and knows nothing of dask.

The policy
----------
1. A worker is asked for two pieces of its own share, and for the next one whenever one is done.
   It works on the first and need not wait for the second.
2. A worker that has finished its own share steals a piece that nobody has begun: the last one
   of the worker that is furthest behind. It does not steal if reading the piece takes longer
   than waiting for the owner, who may have it in memory.
3. A piece that is late is duplicated: an idle worker is asked for it too. The first answer
   counts, and the other request is cancelled. A duplicate whose worker is silent is cancelled,
   and another worker is asked.
4. A piece that is lost on a worker that does not own it is asked of its owner again, and not
   stolen by the same worker again. A piece that is lost on its owner ends the pass, because
   dask has then tried it on other workers already.

Stolen and duplicated pieces carry their own data, because their owner may not answer any more.
Sums are exact, so none of this changes a bit.
"""

import itertools
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dsoftmax.engines.cluster.deal import Piece

QUEUED = 2
"""Number of pieces that a worker is asked for at once."""
PATIENCE = 4.0
"""Factor over its expected time after which a piece is late."""
PATIENCE_SECONDS = 10.0
"""Shortest time after which a piece is late, in seconds. Halved if its worker is paused or
silent."""


@dataclass(frozen=True)
class Ask:
    """Command to ask a worker for a piece.

    Attributes
    ----------
    request : int
        Number of the request, unique in the pass.
    piece : Piece
    worker : str
        Address of the worker.
    duplicate : bool
        Whether another worker is asked for the same piece.
    """

    request: int
    piece: Piece
    worker: str
    duplicate: bool

    @property
    def lent(self) -> bool:
        """Whether the worker is not the owner."""
        return self.worker != self.piece.owner


@dataclass(frozen=True)
class Cancel:
    """Command to cancel a request, whose answer no longer counts."""

    request: int


@dataclass(frozen=True)
class GiveUp:
    """Command to end the pass with the error of a request."""

    request: int


Command = Ask | Cancel | GiveUp


@dataclass
class Request:
    """A request that has no answer yet.

    Attributes
    ----------
    piece : Piece
    worker : str
        Address of the worker that was asked.
    since : float
        Time of the request or, if later, of the worker's last answer: seconds on the caller's
        clock.
    duplicate : int or None
        Number of the other request for the same piece.
    """

    piece: Piece
    worker: str
    since: float
    duplicate: int | None = None


class Dispatch:
    """The requests of one pass.

    Parameters
    ----------
    pieces : sequence of sequence of Piece
        Pieces of each worker, in the order in which it visits them.
    reading : mapping from str to float
        Bytes a second at which workers visit chunks that are not cached, by address, as far as
        known.
    timeout : float
        Seconds after which a piece is late if its owner's throughput is unknown.

    Attributes
    ----------
    running : dict from int to Request
        Requests without an answer, in the order in which they were made.
    counted : list of int
        Requests whose answers make up the pass, one for each piece that is done.
    """

    def __init__(
        self, pieces: Sequence[Sequence[Piece]], reading: Mapping[str, float], timeout: float
    ) -> None:
        self.running: dict[int, Request] = {}
        self.counted: list[int] = []
        self._queues = {own[0].owner: deque(own) for own in pieces if own}
        self._left = {piece for own in pieces for piece in own}
        self._lost: set[tuple[str, Piece]] = set()
        self._reading, self._timeout = reading, timeout
        self._numbers = itertools.count()

    @property
    def finished(self) -> bool:
        """Whether every piece is done."""
        return not self._left

    @property
    def wants_each(self) -> bool:
        """Whether a single answer lets workers be asked for more, or requests be cancelled."""
        asked = {one.worker for one in self.running.values()}
        return (
            len(asked) < len(self.running)
            or any(one.duplicate is not None for one in self.running.values())
            or any(self._queues.values())
        )

    def has_waited(self, now: float) -> bool:
        """Return whether a request may be late, so that `tick` has something to do."""
        return any(now - one.since >= PATIENCE_SECONDS / 2 for one in self.running.values())

    def start(self, now: float) -> list[Command]:
        """Ask every worker for its first pieces."""
        return [command for _ in range(QUEUED) for command in self._ask_owners(now)]

    def done(self, request: int, now: float) -> list[Command]:
        """Count the answer of a request, unless the request was cancelled before."""
        one = self.running.pop(request, None)
        if one is None:
            return []
        commands: list[Command] = []
        if one.duplicate is not None:
            del self.running[one.duplicate]
            commands.append(Cancel(one.duplicate))
        self._left.remove(one.piece)
        self.counted.append(request)
        for other in self.running.values():
            if other.worker == one.worker:
                other.since = now
        return [*commands, *self._next_for(one.worker, now), *self._restart(now)]

    def failed(self, request: int, recoverable: bool, now: float) -> list[Command]:
        """Ask again for a piece whose request failed, or give up.

        Parameters
        ----------
        request : int
        recoverable : bool
            Whether the same piece may succeed on another worker: it was lost, or did not fit in
            memory.
        now : float
        """
        one = self.running.pop(request, None)
        if one is None:
            return []
        commands: list[Command] = []
        self._lost.add((one.worker, one.piece))
        if recoverable and one.duplicate is not None:
            self.running[one.duplicate].duplicate = None
        elif recoverable and one.worker != one.piece.owner:
            commands.append(self._ask(one.piece, one.piece.owner, now))
        else:
            return [GiveUp(request)]
        return [*commands, *self._next_for(one.worker, now), *self._restart(now)]

    def tick(self, ready: Collection[str], now: float) -> list[Command]:
        """Duplicate late pieces to idle workers.

        Parameters
        ----------
        ready : collection of str
            Addresses of the workers that are neither paused nor silent.
        now : float
        """
        commands: list[Command] = []
        busy = {one.worker for one in self.running.values() if not self._is_late(one, ready, now)}
        idle = [worker for worker in self._queues if worker in ready and worker not in busy]
        for request, one in list(self.running.items()):
            if request not in self.running or not self._is_late(one, ready, now):
                continue
            if one.duplicate is not None and self.running[one.duplicate].worker not in ready:
                del self.running[one.duplicate]
                commands.append(Cancel(one.duplicate))
                one.duplicate = None
            if one.duplicate is None and idle:
                # The worker itself comes last. It may wait for θ, which a silent worker has; a
                # duplicate carries θ.
                others = [worker for worker in idle if worker != one.worker]
                helper = (others or idle)[0]
                idle.remove(helper)
                asked = self._ask(one.piece, helper, now, duplicate=request)
                one.duplicate = asked.request
                commands.append(asked)
        return commands

    def _is_late(self, one: Request, ready: Collection[str], now: float) -> bool:
        if one.worker not in ready:
            return now - one.since > PATIENCE_SECONDS / 2
        seconds = one.piece.seconds
        patience = self._timeout if seconds is None else PATIENCE * seconds
        return now - one.since > max(patience, PATIENCE_SECONDS)

    def _ask(self, piece: Piece, worker: str, now: float, duplicate: int | None = None) -> Ask:
        request = next(self._numbers)
        self.running[request] = Request(piece, worker, now, duplicate)
        return Ask(request, piece, worker, duplicate is not None)

    def _ask_owners(self, now: float) -> list[Command]:
        """Ask every worker whose queue is not empty for one piece."""
        return [
            self._ask(queue.popleft(), worker, now)
            for worker, queue in self._queues.items()
            if queue
        ]

    def _restart(self, now: float) -> list[Command]:
        """Ask the owners if nothing runs: nobody stole what was left in their queues."""
        return [] if self.running else self._ask_owners(now)

    def _next_for(self, worker: str, now: float) -> list[Command]:
        """Ask a worker that has answered for its next piece, or let it steal one."""
        if queue := self._queues[worker]:
            return [self._ask(queue.popleft(), worker, now)]
        if any(one.worker == worker for one in self.running.values()):
            return []
        victim = self._victim(worker, now)
        if victim is None:
            return []
        if queue := self._queues[victim]:
            return [self._ask(queue.pop(), worker, now)]
        last = [request for request, one in self.running.items() if one.worker == victim][-1]
        piece = self.running.pop(last).piece
        return [Cancel(last), self._ask(piece, worker, now)]

    def _victim(self, thief: str, now: float) -> str | None:
        """Return the worker from which to steal; None if stealing does not help.

        It is the worker furthest behind whose last piece the thief finishes sooner.
        """
        asked: dict[str, list[Request]] = {worker: [] for worker in self._queues}
        for one in self.running.values():
            asked[one.worker].append(one)
        left = {worker: self._seconds_left(worker, own, now) for worker, own in asked.items()}
        reading = self._reading.get(thief)
        for worker in sorted(left, key=lambda worker: -left[worker]):
            piece = self._last_not_begun(worker, asked[worker])
            if piece is None or (thief, piece) in self._lost:
                continue
            if reading and piece.seconds is not None and piece.n_bytes / reading > left[worker]:
                continue
            return worker
        return None

    def _last_not_begun(self, worker: str, asked: Sequence[Request]) -> Piece | None:
        """Return the last piece that a worker has not begun; None if it works on its last one."""
        if queue := self._queues[worker]:
            return queue[-1]
        if len(asked) < QUEUED or asked[-1].duplicate is not None:
            return None
        return asked[-1].piece

    def _seconds_left(self, worker: str, asked: Sequence[Request], now: float) -> float:
        """Return the time that a worker needs for its requests and its queue, in seconds."""
        pieces = (*(one.piece for one in asked), *self._queues[worker])
        seconds = sum(piece.expected for piece in pieces)
        if asked:
            seconds -= min(now - asked[0].since, asked[0].piece.expected)
        return seconds
