"""Locks on files, which the system releases when the process ends."""

import errno


def lock(handle: int, wait: bool = False) -> bool | None:
    """Lock an open file; the system releases the lock when the process ends, also after a kill.

    Parameters
    ----------
    handle : int
        File descriptor.
    wait : bool
        Whether to wait until another process releases the lock.

    Returns
    -------
    bool or None
        Whether this process has the lock. None if the system has no such locks, as on Windows and
        some network file systems.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True
