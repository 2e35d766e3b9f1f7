"""The command that stores a Zarr array again in another shape."""

import json
import math
import shlex


def reshape_command(path: str, shape: tuple[int, ...], row: tuple[int, ...]) -> str:
    """Return a shell command that writes a copy of a local array as rows, beside it as ``NAME-rows``.

    It decodes every stored chunk once, one row of them at a time.

    Parameters
    ----------
    path : str
    shape : tuple of int
        Of the array, with entries.
    row : tuple of int
        Shape of a row of the copy; the entries keep their order.
    """
    n = math.prod(shape) // math.prod(row)
    k = n // shape[0]
    code = (
        f'import zarr; a = zarr.open_array({json.dumps(path, ensure_ascii=False)}, mode="r"); s = (a.shards or a.chunks)[0]; '
        f"b = zarr.create_array({json.dumps(f'{path}-rows', ensure_ascii=False)}, shape={(n, *row)}, dtype=a.dtype, "
        f'chunks=({", ".join(map(str, (f"s * {k}", *row)))},), config={{"write_empty_chunks": True}}); '
        f"[b.set_basic_selection(slice(i * {k}, (i + s) * {k}), a[i : i + s].reshape({(-1, *row)})) for i in range(0, {shape[0]}, s)]"
    )
    return f"python -c {shlex.quote(code)}"
