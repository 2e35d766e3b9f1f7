"""A cluster without dask: workers with a fake clock that carry out the commands of a `Dispatch`."""

from dataclasses import dataclass, field

from dsoftmax.engines.cluster.deal import Piece
from dsoftmax.engines.cluster.dispatch import Ask, Cancel, Dispatch, GiveUp

BYTES_A_SECOND = 100
"""Throughput at which `pieces_of` turns seconds into bytes."""
TICK = 2.0
"""Seconds between two looks at the cluster."""


def pieces_of(owner, *seconds, known=True):
    """The pieces of a share, with the seconds that each takes its owner.

    The dispatcher may not know the seconds.
    """
    return [
        Piece(
            owner,
            i,
            i + 1,
            n_rows=1,
            n_bytes=int(one * BYTES_A_SECOND),
            seconds=one if known else None,
        )
        for i, one in enumerate(seconds)
    ]


class GaveUpError(Exception):
    """The dispatcher ended the pass."""


@dataclass
class Member:
    """A worker of the simulation.

    Attributes
    ----------
    slowness : float
        Factor on the seconds that its pieces take.
    frozen : list of (float, float)
        Times between which it does nothing.
    queue : dict from int to float
        Requests, and the seconds of work that are left of each.
    """

    slowness: float = 1.0
    frozen: list = field(default_factory=list)
    queue: dict = field(default_factory=dict)

    def is_frozen(self, now):
        return any(start <= now < stop for start, stop in self.frozen)


class Simulation:
    """Run a pass on simulated workers.

    Parameters
    ----------
    dispatch : Dispatch
    members : dict from str to Member
    lost : set of int
        Requests that fail instead of being answered.
    """

    def __init__(self, dispatch: Dispatch, members, lost=()):
        self.dispatch, self.members, self.lost = dispatch, members, set(lost)
        self.now, self.asked = 0.0, {}

    def run(self, limit=100_000):
        """Run until the pass ends, and return the pieces of the answers that count, in order."""
        self._carry_out(self.dispatch.start(self.now))
        for _ in range(limit):
            if self.dispatch.finished:
                assert not self.dispatch.running
                return [self.asked[request].piece for request in self.dispatch.counted]
            self._answer(self._step())
            if self.dispatch.has_waited(self.now):
                ready = {name for name, one in self.members.items() if not one.is_frozen(self.now)}
                self._carry_out(self.dispatch.tick(ready, self.now))
        raise AssertionError("the pass does not end")

    def _step(self):
        """Advance the clock to the next answer, at most by `TICK`; return the requests that end."""
        working = [
            one for one in self.members.values() if one.queue and not one.is_frozen(self.now)
        ]
        step = min([next(iter(one.queue.values())) for one in working] + [TICK])
        self.now += step
        done = []
        for one in working:
            first = next(iter(one.queue))
            one.queue[first] -= step
            if one.queue[first] <= 1e-9:
                del one.queue[first]
                done.append(first)
        return done

    def _answer(self, done):
        for request in done:  # also those that an answer before has cancelled
            if request in self.lost:
                commands = self.dispatch.failed(request, True, self.now)
            else:
                commands = self.dispatch.done(request, self.now)
            self._carry_out(commands)

    def _carry_out(self, commands):
        for command in commands:
            if isinstance(command, Ask):
                member = self.members[command.worker]
                seconds = command.piece.n_bytes / BYTES_A_SECOND * member.slowness
                member.queue[command.request] = max(seconds, 1e-6)
                self.asked[command.request] = command
            elif isinstance(command, Cancel):
                for member in self.members.values():
                    member.queue.pop(command.request, None)
            else:
                assert isinstance(command, GiveUp)
                raise GaveUpError(command.request)
        pieces = [(one.piece.owner, one.piece.start) for one in self.dispatch.running.values()]
        assert all(pieces.count(piece) <= 2 for piece in pieces)
