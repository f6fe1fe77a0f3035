"""Two clients in a process of their own, in turns: python -m benchmarks.pair CLIENT OTHER FOLDER BASE_URL CA_FILE BLOCKS

Prints the seconds of a call of each, as the median of BLOCKS turns. They take turns of milliseconds, since a busy host slows
a virtual machine down for longer than that. No other client is in the process, as in most programs.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median

from .known import Known
from .peers import PATHS, Client, new_client
from .process import Place

#: Calls of one before the other has its turn, and turns in one process.
BLOCK, BLOCKS = 50, 101


def seconds(client: Client) -> float:
    """Of a call."""
    path = PATHS["keep-alive"]
    start = time.perf_counter()
    for _ in range(BLOCK):
        client.get(path)
    return (time.perf_counter() - start) / BLOCK


def main() -> None:
    *names, folder, base_url, ca_file, blocks = sys.argv[1:]
    place, known = Place(base_url, ca_file), Known(Path(folder))
    clients = {name: new_client(name, place, known) for name in names}
    for client in clients.values():
        seconds(client)  # opens the connection
    turns = [{name: seconds(client) for name, client in clients.items()} for _ in range(int(blocks))]
    times = {name: [turn[name] for turn in turns] for name in names}
    print(json.dumps({name: median(figures) for name, figures in times.items()}))
    for client in clients.values():
        client.close()


if __name__ == "__main__":
    main()
