"""Services of the operating system: files, locks, memory, BLAS threads, sizes in bytes."""
