"""The command that stores a Zarr array again in another shape."""

import json
import math
import shlex


def reshape_command(path: str, shape: tuple[int, ...], row: tuple[int, ...]) -> str:
    """Return a shell command that stores a local array as rows, beside it as ``NAME-rows``.

    The command decodes every stored chunk once. Its memory is that of one row of stored chunks.

    Parameters
    ----------
    path : str
    shape : tuple of int
        Shape of the array, which has entries.
    row : tuple of int
        Shape of a row of the copy. The entries keep their order.
    """
    n = math.prod(shape) // math.prod(row)
    k = n // shape[0]
    old, new = (json.dumps(one, ensure_ascii=False) for one in (path, f"{path}-rows"))
    chunks = ", ".join(map(str, (f"s * {k}", *row)))
    code = (
        f'import zarr; a = zarr.open_array({old}, mode="r"); s = (a.shards or a.chunks)[0]; '
        f"b = zarr.create_array({new}, shape={(n, *row)}, dtype=a.dtype, "
        f'chunks=({chunks},), config={{"write_empty_chunks": True}}); '
        f"[b.set_basic_selection(slice(i * {k}, (i + s) * {k}), a[i : i + "
        f"s].reshape({(-1, *row)})) for i in range(0, {shape[0]}, s)]"
    )
    return f"python -c {shlex.quote(code)}"


def transpose_command(path: str, shape: tuple[int, ...]) -> str:
    """Return a shell command that stores a local array as rows, its first dimension as features.

    The rows keep the order of the other dimensions. The copy stands beside the array as
    ``NAME-rows``. The memory of the command is that of all features of one stored chunk's rows.

    Parameters
    ----------
    path : str
    shape : tuple of int
        Shape of the array, which has two dimensions or more, and entries.
    """
    p, k = shape[0], math.prod(shape[2:])
    n = shape[1] * k
    old, new = (json.dumps(one, ensure_ascii=False) for one in (path, f"{path}-rows"))
    code = (
        f'import zarr; a = zarr.open_array({old}, mode="r"); s = (a.shards or a.chunks)[1]; '
        f"b = zarr.create_array({new}, shape=({n}, {p}), dtype=a.dtype, "
        f'chunks=(s * {k}, {p}), config={{"write_empty_chunks": True}}); '
        f"[b.set_basic_selection(slice(i * {k}, (i + s) * {k}), a[:, i : i + "
        f"s].reshape(({p}, -1)).T) for i in range(0, {shape[1]}, s)]"
    )
    return f"python -c {shlex.quote(code)}"
