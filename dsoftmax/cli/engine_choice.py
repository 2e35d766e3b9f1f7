"""The engine options of a command as one value."""

from dataclasses import dataclass

from dsoftmax.errors import OptionError

ENGINES = ("serial", "threads", "cluster")


@dataclass(frozen=True)
class EngineChoice:
    """The engine that runs the passes.

    Attributes
    ----------
    engine : {"serial", "threads", "cluster"}
    workers : int or None
        Number of worker processes of a cluster that this command starts. None means one per core.
    scheduler, scheduler_file : str or None
        Address, or address file, of the scheduler of a running cluster.
    memory : int or None
        Memory limit in bytes, of this process or of all processes of a started cluster together.
    spool : str or None
        Directory for decoded blocks.
    spool_limit : int or None
        Disk space for them in each process, in bytes.
    tls : (str or None, str or None, str or None)
        Files of the authority, the certificate and the key for an encrypted scheduler.
    """

    engine: str
    workers: int | None = None
    scheduler: str | None = None
    scheduler_file: str | None = None
    memory: int | None = None
    spool: str | None = None
    spool_limit: int | None = None
    tls: tuple[str | None, str | None, str | None] = (None, None, None)

    @property
    def is_remote(self) -> bool:
        """Whether the passes run on a cluster that this command does not start."""
        return self.scheduler is not None or self.scheduler_file is not None


def engine_choice(
    engine: str | None,
    workers: int | None,
    scheduler: str | None,
    scheduler_file: str | None,
    memory: int | None,
    spool: str | None = None,
    spool_limit: int | None = None,
    tls_ca_file: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
) -> EngineChoice:
    """Return the engine that the options name.

    Raises
    ------
    OptionError
        Two options contradict each other, or one of them would do nothing.
    """
    cluster = {"--workers": workers, "--scheduler": scheduler, "--scheduler-file": scheduler_file}
    given = [name for name, value in cluster.items() if value is not None]
    if len(given) > 1:
        raise OptionError(
            f"{' and '.join(given)} contradict each other, because a pass runs on one cluster. "
            "Pass only one of them."
        )
    if scheduler == "" or scheduler_file == "":
        raise OptionError(
            f"{given[0]} is empty; expected an address or a file. Is a variable of the shell not "
            "set? Without this option the passes run on this machine."
        )
    if given and engine not in (None, "cluster"):
        raise OptionError(
            f"{given[0]} belongs to --engine cluster, but --engine {engine} runs in this process. "
            "Leave out one of them."
        )
    if workers is not None and workers < 1:
        raise OptionError(f"--workers is {workers}; expected at least one worker process.")
    if memory is not None and (scheduler or scheduler_file):
        raise OptionError(
            "--memory does nothing on a running cluster, because its workers keep the limit they "
            "were started with (`dask worker --memory-limit`). Leave out --memory."
        )
    tls = (tls_ca_file, tls_cert, tls_key)
    if any(tls) and not (scheduler or scheduler_file):
        raise OptionError(
            "--tls-ca-file, --tls-cert and --tls-key are for a running cluster. Pass --scheduler "
            "or --scheduler-file too, or leave them out."
        )
    if (tls_cert is None) != (tls_key is None):
        raise OptionError("--tls-cert and --tls-key belong together. Pass both, or neither.")
    chosen = engine or ("cluster" if given else "threads")
    if spool is not None and chosen == "serial":
        raise OptionError(
            "--spool does nothing with --engine serial, which caches no blocks. "
            "Leave out one of them."
        )
    if spool_limit is not None and spool is None:
        raise OptionError(
            "--spool-limit does nothing without --spool DIRECTORY. Pass both, or neither."
        )
    return EngineChoice(chosen, workers, scheduler, scheduler_file, memory, spool, spool_limit, tls)
