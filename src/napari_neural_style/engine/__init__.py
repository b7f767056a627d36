"""Style transfer on arrays; knows nothing of napari."""

import os
import sys

# Threads wait for each other at every operation. If they sleep, a step takes a sixth longer; if they spin, they take
# the cores away from the viewer and from other programs, and a step beside a busy core takes twice as long. GNU's spin
# for some tens of microseconds here before they sleep; LLVM's and Intel's sleep. They read this once, when torch is
# imported.
if "OMP_WAIT_POLICY" not in os.environ:
    if sys.platform == "linux":
        os.environ["OMP_WAIT_POLICY"] = "ACTIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        os.environ.setdefault("KMP_BLOCKTIME", "0")
    else:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
