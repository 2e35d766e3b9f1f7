"""What a process takes of the memory, as the system counts it."""

import sys
from pathlib import Path


def peak_bytes() -> int:
    """Return the most memory this process has held so far (resident set, bytes)."""
    try:  # getrusage also counts what the process that started this one held before
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
