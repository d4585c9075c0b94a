"""``python -m benchmarks.tables``."""

import sys
from pathlib import Path

from benchmarks.tables import main

sys.exit(main(Path.cwd(), check="--check" in sys.argv))
