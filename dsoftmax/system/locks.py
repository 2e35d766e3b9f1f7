"""Locks on files, which the system gives back when the process ends."""

import errno


def lock(handle: int, wait: bool = False) -> bool | None:
    """Lock an open file; the system gives the lock back when the process ends in whatever way.

    Returns
    -------
    bool or None
        Whether this process has it now; None where there are no such locks (Windows, some network file systems).
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
