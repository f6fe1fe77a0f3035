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
from .peers import PATHS, new_client
from .process import Place

#: Calls of one before the other has its turn.
BLOCK = 50


def main() -> None:
    *names, folder, base_url, ca_file, blocks = sys.argv[1:]
    place, known, path = Place(base_url, ca_file), Known(Path(folder)), PATHS["keep-alive"]
    clients = {name: new_client(name, place, known) for name in names}
    for client in clients.values():
        for _ in range(BLOCK):
            client.get(path)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(int(blocks)):
        for name, client in clients.items():
            start = time.perf_counter()
            for _ in range(BLOCK):
                client.get(path)
            times[name].append((time.perf_counter() - start) / BLOCK)
    print(json.dumps({name: median(figures) for name, figures in times.items()}))
    for client in clients.values():
        client.close()


if __name__ == "__main__":
    main()
