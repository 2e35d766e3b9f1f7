"""Private or undocumented parts of other libraries, one file a library."""
