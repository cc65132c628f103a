"""Runs killed at random moments by SIGKILL, each resumed: ``python kill_it.py FOLDER``.

Torch and Fabric are imported once; each attempt is a fork of this process, a real process that
is killed without a chance to clean up. Prints, as JSON, where the kills came.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import torch
from small import ACCUMULATED, ONE_CYCLE, PLATEAU, datasets

from chexlib.training import fit, loop, run

EVENTS = ("step", "writing", "weights", "validation", "row")


def attempt(asked, folder, every, tell):
    """Fork; the child trains, and says through a pipe what it begins."""
    pid = os.fork()
    if pid:
        return pid

    def telling(owner, name, event):
        made = getattr(owner, name)

        def told(*arguments, **options):
            os.write(tell, bytes([EVENTS.index(event)]))
            return made(*arguments, **options)

        setattr(owner, name, told)

    telling(loop.Training, "train_step", "step")
    telling(loop.Training, "validation_step", "validation")
    telling(loop.Training, "end_epoch", "row")
    telling(run, "_save", "writing")
    telling(loop, "save_checkpoint", "weights")
    try:
        fit(asked, folder, data=datasets(), checkpoint_every=every)
    except BaseException as error:
        os.write(2, repr(error).encode())
        os._exit(1)
    os._exit(0)


def kill_at(pid, heard, event, number, delay):
    """Kill the child shortly after it begins something for the given time; None if it ended."""
    seen = Counter()
    while seen[event] < number:
        byte = os.read(heard, 1)
        if not byte:
            return None
        seen[EVENTS[byte[0]]] += 1
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    return event


def killed(asked, folder, left, rng):
    """Kill attempts until one ends; return at what they were killed, ``left`` times at most."""
    places = []
    while True:
        heard, tell = os.pipe()
        pid = attempt(asked, folder, rng.choice([1, 2, 4, 100]), tell)
        os.close(tell)
        place = None
        if len(places) < left:
            event = rng.choice(EVENTS)
            number = rng.choice([1, 2, 3]) if event in ("step", "writing") else 1
            place = kill_at(pid, heard, event, number, rng.uniform(0, 0.02))
        _, status = os.waitpid(pid, 0)
        os.close(heard)
        if place is None:
            if status:
                raise SystemExit(f"An attempt failed: {status}")
            return places
        places.append(place)


def main():
    torch.set_num_threads(1)
    folder, rng = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    found = []
    while (total := sum(len(places) for _, places in found)) < 20:
        asked = (ONE_CYCLE, PLATEAU, ACCUMULATED)[len(found) % 3]
        name = f"{asked.schedule} {len(found)}"
        found.append((name, killed(asked, folder / name, 20 - total, rng)))
    print(json.dumps(dict(found)))


if __name__ == "__main__":
    main()
