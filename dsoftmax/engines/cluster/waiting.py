"""Every wait for a cluster, and the limit of each.

==========================  ================================================
no worker or no scheduler   `ClusterError` after `Waiting.timeout` seconds
workers, but no more rows   `ClusterError` after `STALL_SECONDS`
all workers replaced        TimeoutError: the pass is tried again
==========================  ================================================
"""

import time
from collections.abc import Collection, Sequence

from distributed import Client, Future, wait

from dsoftmax.compat.distributed import WorkerInfo, address_of, status_of, workers_of
from dsoftmax.errors import ClusterError

SILENT_SECONDS = 15.0
"""Age of a worker's last heartbeat, in seconds, after which it gets nothing to do. Measured
from the newest heartbeat of all."""
WAIT_SECONDS = 2.0
"""Time between two looks at the cluster during a wait, in seconds."""
STALL_SECONDS = 600.0
"""Time without one more row visited after which a pass gives up, in seconds."""


def ready(workers: dict[str, WorkerInfo]) -> dict[str, WorkerInfo]:
    """Return the workers that are neither paused nor silent.

    The scheduler lists a process that is stopped for minutes.
    """
    newest = max((one.last_seen for one in workers.values()), default=0.0)
    return {
        address: one
        for address, one in workers.items()
        if one.status in ("running", "init") and newest - one.last_seen <= SILENT_SECONDS
    }


class Waiting:
    """Waits for the workers and tasks of one client.

    Parameters
    ----------
    client : distributed.Client
    timeout : float
        Seconds without a worker, or without the scheduler, after which a wait gives up.
    """

    def __init__(self, client: Client, timeout: float) -> None:
        self.client, self.timeout = client, timeout
        self._progress = time.monotonic()
        self._alone_since: float | None = None

    def begin(self) -> None:
        """Start the limits anew, for another attempt at a pass."""
        self._alone_since = None
        self.progressed()

    def progressed(self) -> None:
        """Note that more rows were visited."""
        self._progress = time.monotonic()

    def workers(self) -> dict[str, WorkerInfo]:
        """Ask the scheduler for its workers, by address.

        Raises
        ------
        ClusterError
            It does not answer in time.
        """
        try:
            return workers_of(self.client, self.timeout)
        except OSError as error:
            raise self.lost() from error

    def present(self) -> dict[str, WorkerInfo]:
        """Ask the scheduler for its workers; none if it does not answer.

        Raises
        ------
        ClusterError
            The client has given up the scheduler.
        """
        status = status_of(self.client)
        if status == "closed":
            raise self.lost()
        if status != "running":
            return {}
        try:
            return self.workers()
        except ClusterError:
            return {}

    def for_workers(self) -> dict[str, WorkerInfo]:
        """Wait for a worker, and return the workers that are ready, or all of them if none is.

        Raises
        ------
        ClusterError
            There is no worker in time.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            workers = self.present()
            found = ready(workers)
            if found or (workers and time.monotonic() > deadline):
                return found or workers
            if time.monotonic() > deadline:
                raise self.lost(f"has had no worker for {self.timeout:g} s")
            time.sleep(0.1)

    def for_all(
        self, futures: Sequence[Future], team: Collection[str] = (), limit: float | None = None
    ) -> None:
        """Wait until all futures are done.

        Parameters
        ----------
        futures : sequence of Future
        team : collection of str
            Addresses of the workers that were asked.
        limit : float, optional
            Seconds after which a silent worker of the team ends the wait.

        Raises
        ------
        ClusterError, TimeoutError
            See `once`.
        """
        started = time.monotonic()
        while any(future.status == "pending" for future in futures):
            self.once(futures, team)
            if limit is not None and time.monotonic() - started > limit:
                found = ready(self.present())
                if silent := [address for address in team if address not in found]:
                    raise TimeoutError(f"{', '.join(silent)} did not answer for {limit:g} s")

    def once(
        self, futures: Sequence[Future], team: Collection[str] = (), first: bool = False
    ) -> None:
        """Wait until the futures, or the first of them, are done, but at most `WAIT_SECONDS`.

        Raises
        ------
        ClusterError
            There has been no scheduler, no worker, or no progress for too long.
        TimeoutError
            The whole team has been replaced by other workers.
        """
        started = time.monotonic()
        try:
            wait(
                futures,
                timeout=WAIT_SECONDS,
                return_when="FIRST_COMPLETED" if first else "ALL_COMPLETED",
            )
            self._alone_since = None
            return
        except TimeoutError:
            pass
        self._check(self.present(), team, started)

    def _check(self, present: Collection[str], team: Collection[str], started: float) -> None:
        """Raise if a limit has passed."""
        now = time.monotonic()
        self._alone_since = None if present else self._alone_since or started
        if self._alone_since is not None and now - self._alone_since > self.timeout:
            raise self.lost(f"has not answered or had no worker for {self.timeout:g} s")
        if present and team and not any(address in present for address in team):
            # A task that loses its last worker waits for one at the same address, even if
            # others may run it.
            raise TimeoutError("all workers were lost, and others have come")
        if now - self._progress > STALL_SECONDS:
            raise ClusterError(
                f"No worker of the cluster at {address_of(self.client)} has made progress for "
                f"{STALL_SECONDS:g} s. Look at their logs. Restart them, then run the same "
                "command: it resumes after the last pass."
            )

    def lost(self, what: str = "does not answer") -> ClusterError:
        """Build the error of a cluster that has no scheduler or no worker."""
        return ClusterError(
            f"The cluster at {address_of(self.client)} {what} (limit: {self.timeout:g} s, client: "
            f"{status_of(self.client)}). Start the scheduler (`dask scheduler`) and a worker "
            "(`dask worker ADDRESS`) again, then run the same command: it resumes after the last "
            "pass."
        )
