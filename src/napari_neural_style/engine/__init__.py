"""Style transfer on arrays; knows nothing of napari."""

import os

# Threads that wait for each other by spinning take the cores away from the viewer and from other programs, and a step
# beside a busy core takes several times as long. OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
