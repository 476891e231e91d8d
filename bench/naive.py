"""The naive peer: the script that a competent person writes in an afternoon, watchdog and DuckDB.

`python -m bench.naive LANDING WAREHOUSE` loads each CSV file when it was closed after writing or renamed within
the landing directory, one file at a time, and prints a JSON line for each. It is fast, and it is not safe: a file
that is closed twice is loaded twice, one that came while the script was down is never loaded, one that is moved in
from another directory is not noticed, and a bad row stops it.
"""

import json
import queue
import sys
import time
from pathlib import Path

from bench import limit
from watchdog.events import FileSystemEvent, PatternMatchingEventHandler
from watchdog.observers import Observer


class Arrivals(PatternMatchingEventHandler):
    def __init__(self, arrived: "queue.Queue[Path]") -> None:
        super().__init__(patterns=["**/*.csv"], ignore_directories=True)
        self.arrived = arrived

    def on_closed(self, event: FileSystemEvent) -> None:
        self.arrived.put(Path(str(event.src_path)))

    def on_moved(self, event: FileSystemEvent) -> None:
        self.arrived.put(Path(str(event.dest_path)))


def main(landing: Path, warehouse: Path) -> None:
    connection = limit.connect(warehouse)
    arrived: queue.Queue[Path] = queue.Queue()
    observer = Observer()
    observer.schedule(Arrivals(arrived), str(landing))
    observer.start()
    say({"ready": True})
    while True:
        path = arrived.get()
        limit.load(connection, [path])
        say({"file": path.name, "committed_at_s": time.time()})


def say(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
