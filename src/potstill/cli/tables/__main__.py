"""``python -m potstill.cli.tables``."""

import sys
from pathlib import Path

from potstill.cli.tables import main

sys.exit(main(Path.cwd(), check="--check" in sys.argv))
