"""What is asked of the operating system: bytes and units, files, locks, BLAS threads, the allocator, process memory."""
