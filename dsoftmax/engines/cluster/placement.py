"""The shares that workers have, as futures on the cluster.

A worker gets its share once, as the result of a submitted task, so that dask computes it again
if the worker dies. Workers that stay in the cluster keep their share while others come and go.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client, Future
from numpy.typing import NDArray

from dsoftmax.compat.distributed import WorkerInfo, cancel, holders_of, submit
from dsoftmax.data.source import Source
from dsoftmax.engines.cluster.deal import Hand, deal, owners_of
from dsoftmax.engines.cluster.versions import check_versions
from dsoftmax.engines.cluster.waiting import Waiting
from dsoftmax.engines.cluster.worker import bind_share, cache_share
from dsoftmax.engines.kept.spool import SpoolTo


@dataclass(frozen=True)
class Placed:
    """A share on its worker.

    Attributes
    ----------
    hand : Hand
    on_cluster : bool
        Whether the chunks are futures on the cluster.
    share : Future
        The share, as it was sent.
    cached : Future
        The share with the worker's cache.
    """

    hand: Hand
    on_cluster: bool
    share: Future
    cached: Future

    @property
    def futures(self) -> tuple[Future, Future]:
        return self.share, self.cached

    @property
    def is_sound(self) -> bool:
        """Whether its futures are good for another pass."""
        return all(future.status in ("pending", "finished") for future in self.futures)


class Placement:
    """The shares of one source on the workers of a cluster.

    Parameters
    ----------
    client : distributed.Client
    run : str
        Name of the engine's run.
    waiting : Waiting
    spool : SpoolTo, optional
        Directory and limit of each worker's spool for blocks that it does not cache in memory.
    """

    def __init__(self, client: Client, run: str, waiting: Waiting, spool: SpoolTo | None) -> None:
        self.client, self.waiting, self.spool = client, waiting, spool
        self._run = run
        self._source_key = ""
        self._placed: dict[str, Placed] = {}
        self._replaced: list[Placed] = []
        self._team: dict[str, tuple[str, int, str]] = {}

    @property
    def in_order(self) -> list[Placed]:
        """The shares, those of one host side by side."""
        return sorted(self._placed.values(), key=lambda one: (one.hand.host, one.hand.address))

    def begin(self) -> None:
        """Forget all shares, for another source.

        The cluster drops them and their cached blocks now, even if the traceback of an error
        refers to them. The caches of the new source have another key, because a worker may be
        busy with the source before.
        """
        if self._placed:
            cancel(self.client, [future for one in self._placed.values() for future in one.futures])
        self._placed = {}
        self._source_key = uuid.uuid4().hex[:12]

    def plan_again(self) -> None:
        """Plan the next pass anew, because a worker was lost. Sound shares stay."""
        self._team = {}

    def place(self, source: Source, workers: dict[str, WorkerInfo]) -> list[Placed]:
        """Give each worker its share. Nothing is planned anew while no worker comes or goes."""
        members = {one.name: one for one in sorted(workers.values(), key=lambda one: one.name)}
        team = {name: (one.address, one.n_threads, one.directory) for name, one in members.items()}
        if self._placed and team == self._team:
            return self.in_order
        same = {
            name: one
            for name, one in self._placed.items()
            if one.is_sound and team.get(name, ())[::2] == (one.hand.address, one.hand.directory)
        }
        new = [one.address for name, one in members.items() if name not in same]
        check_versions(self.client, new, self.waiting.timeout)
        owners = self._owners(source, {one.address: one.name for one in members.values()})
        dealt = deal(
            {name: one.n_threads for name, one in members.items()}, source.chunk_bytes, owners
        )
        placed: dict[str, Placed] = {}
        for name, chunks in dealt.items():
            if name in same and np.array_equal(same[name].hand.chunks, chunks):
                placed[name] = same[name]
            elif len(chunks):
                placed[name] = self._give(source, members[name], chunks, owners is not None)
        self._replaced += [one for name, one in self._placed.items() if placed.get(name) is not one]
        self._placed, self._team = placed, team
        return self.in_order

    def release_replaced(self) -> None:
        """Release the shares of earlier plans, whose caches the new shares use by now."""
        for one in self._replaced:
            for future in one.futures:
                future.release()
        self._replaced = []

    def _give(
        self, source: Source, worker: WorkerInfo, chunks: NDArray[np.int64], on_cluster: bool
    ) -> Placed:
        where = {"workers": [worker.address], "allow_other_workers": True}
        mark = f"{self._run}-{uuid.uuid4().hex[:8]}"
        loader, stored = source.share(chunks.tolist()), stored_parts(source, chunks, on_cluster)
        share = self._submit(
            bind_share, loader, chunks, stored, key=f"dsoftmax-share-{mark}", **where
        )
        spool = None if source.resident else self.spool
        arguments = (share, self._source_key, worker.name, spool)
        cached = self._submit(cache_share, *arguments, key=f"dsoftmax-cache-{mark}", **where)
        hand = Hand(
            worker.name,
            worker.address,
            worker.host,
            worker.directory,
            chunks,
            source.chunk_rows[chunks],
            source.chunk_bytes[chunks],
        )
        return Placed(hand, on_cluster, share, cached)

    def _submit(self, function: Callable[..., Any], *args: Any, **options: Any) -> Future:
        return submit(self.client, function, *args, **options)

    def _owners(self, source: Source, names: dict[str, str]) -> NDArray[np.object_] | None:
        """Return the name of the worker that stores each chunk; None for chunks in storage."""
        needs = [source.needs(chunk) for chunk in range(len(source.chunk_rows))]
        everything = [future for futures in needs for future in futures]
        if not everything:
            return None
        self.waiting.progressed()
        self.waiting.for_all(everything)
        keys = [future.key for future in everything]
        holders = holders_of(self.client, keys, self.waiting.timeout)
        return owners_of(
            [
                [address for future in futures for address in holders.get(future.key, ())]
                for futures in needs
            ],
            names,
        )


def stored_parts(
    source: Source, chunks: NDArray[np.int64], on_cluster: bool
) -> Sequence[Sequence[Any]]:
    """Return the futures that store each chunk; nothing if chunks are loaded from storage."""
    return [list(source.needs(chunk)) for chunk in chunks.tolist()] if on_cluster else []
