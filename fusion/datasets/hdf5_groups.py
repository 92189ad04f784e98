"""Safe access to groups of an HDF5 file: only arrays inside the file, and not larger than it, can be read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.files import bounds

_HOPS = 8  # soft links followed in a row


class Group:
    """Arrays of the group `node` of the file `path`, by name.

    Reading an array raises InputError if its name is a link out of the file, if its numbers lie in other files
    (external storage, virtual datasets), or if the arrays read so far declare far more bytes than the file has.
    """

    def __init__(self, node: Any, path: Path, sizes: dict[str, int] | None = None) -> None:
        self._node, self._path = node, path
        self._sizes = {} if sizes is None else sizes  # bytes of the arrays read so far, their sum under ""

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names."""
        return iter(self._node)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def __getitem__(self, name: str) -> Any:
        array = self.get(name)
        if array is None:
            raise KeyError(f"there is no array {name}")
        return array

    def molecules(self) -> Iterator[tuple[str, Group]]:
        """Return names and groups of the molecules, the groups with `coordinates`. Links are not followed."""
        names: list[str] = []

        def visit(name: str, node: Any) -> None:
            if "coordinates" in set(getattr(node, "keys", set)()):
                names.append(name)

        self._node.visititems(visit)
        return ((name, Group(self._node[name], self._path, self._sizes)) for name in names)

    def get(self, name: str) -> Any:
        """Return the array `name`, or None if it does not exist."""
        array = self._resolved(self._node, name, _HOPS)
        if array is None or hasattr(array, "keys"):
            return None
        if array.external or array.is_virtual:
            raise self._refusal(f"the numbers of {array.name} lie in another file")
        if array.name not in self._sizes:
            self._sizes[array.name] = array.nbytes
            self._sizes[""] = self._sizes.get("", 0) + array.nbytes
            size, chunk = self._path.stat().st_size, math.prod(array.chunks or ()) * array.dtype.itemsize
            if max(self._sizes[""], chunk) > bounds.limit(size):
                words = f"in chunks {array.chunks}, far more than a file of {size:,} bytes can hold"
                raise self._refusal(f"{array.name} has the shape {array.shape} {words}")
        return array

    def _resolved(self, node: Any, name: str, hops: int) -> Any:
        """Resolve a path of hard links, or of soft links to such paths; None if it does not exist."""
        import h5py

        for part in name.strip("/").split("/"):
            links = node.id.links if isinstance(node, h5py.Group) else None
            if links is None or not links.exists(part.encode()):
                return None
            match links.get_info(part.encode()).type:
                case h5py.h5l.TYPE_HARD:
                    node = node[part]
                case h5py.h5l.TYPE_SOFT if hops:
                    target = links.get_val(part.encode()).decode()
                    node = self._resolved(node.file if target.startswith("/") else node, target, hops - 1)
                case _:
                    raise self._refusal(f"{name} in {self._node.name} is a link that leads out of the file, or nowhere")
            if node is None:
                return None
        return node

    def _refusal(self, fault: str) -> InputError:
        return InputError(f"data: '{self._path}' is refused: {fault}; all arrays must be in the file itself")
