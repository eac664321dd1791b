"""An engine that takes its time, prints, and fails, for tests of the process that an engine lives in."""

import os
import time

from fake_engine import FakeEngine

from napari_samscape.errors import InputError


class OddEngine(FakeEngine):
    def embed(self, key, pixels, progress):
        print("This must not come between the answers.")
        while key == "slow":
            progress(1, 4, "Looking…")
            time.sleep(0.005)
        if key == "deaf":
            time.sleep(60)
        if key == "bad":
            raise InputError("This picture cannot be used.")
        if key == "fatal":
            os._exit(1)
        super().embed(key, pixels, progress)
        while len(self.seen) > 2:
            del self.seen[next(iter(self.seen))]
