"""``python -m napari_neural_style`` is the command line."""

import sys

from napari_neural_style.cli import main

sys.exit(main())
