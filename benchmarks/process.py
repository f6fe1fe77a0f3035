"""One client in a process of its own: python -m benchmarks.process CLIENT FOLDER BASE_URL CA_FILE CALLS CLIENTS

Prints a line once it has the first answer, then makes CALLS calls, then CLIENTS more clients of the same kind with a call each,
and prints the bytes of memory that the process held at each of these points. The name of the client is one of `peers`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .known import Known
from .peers import PATHS, Client, new_client


class Place:
    """As the command line says it."""

    def __init__(self, base_url: str, ca_file: str) -> None:
        self.base_url, self.ca_file = base_url, Path(ca_file)


def resident() -> int:
    """Bytes of this process that are in memory, as Linux tells."""
    import gc
    import os

    gc.collect()
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    name, folder, base_url, ca_file, calls, clients = sys.argv[1:]
    place, known, path = Place(base_url, ca_file), Known(Path(folder)), PATHS["keep-alive"]
    one = new_client(name, place, known)
    one.get(path)
    print("answered", flush=True)
    memory: dict[str, float] = {"memory at the first answer": resident()}
    for _ in range(int(calls)):
        one.get(path)
    memory["memory after calls"] = before = resident()
    more: list[Client] = []
    for _ in range(int(clients)):
        more.append(new_client(name, place, known))
        more[-1].get(path)
    if more:
        memory["memory of one more client"] = (resident() - before) / len(more)
    print(_json(memory), flush=True)
    for client in (one, *more):
        client.close()


def _json(value: Any) -> str:
    import json

    return json.dumps(value)


if __name__ == "__main__":
    main()
