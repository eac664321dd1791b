"""The command line with the stand-in for a model, as a process of its own: to be killed, or measured.

Prints its peak memory in MB on standard error.
"""

import resource
import sys
import time

import bright
import pytest
from typer.testing import CliRunner

TIME_FOR_A_TILE = 0.02  # seconds, so that there is time to be killed


def slowly(*arguments, **options):
    time.sleep(TIME_FOR_A_TILE)
    return bright.everything(*arguments, **options)


if __name__ == "__main__":
    patch = pytest.MonkeyPatch()
    bright.install(patch)
    if sys.argv[1] == "slowly":
        patch.setattr("napari_samscape.prediction.automatic.everything", slowly)
        del sys.argv[1]
    from napari_samscape.cli.app import app

    result = CliRunner().invoke(app, sys.argv[1:])
    print(result.output)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
    sys.exit(result.exit_code)
