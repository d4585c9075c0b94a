"""``python -m tools.docs``."""

import sys
from pathlib import Path

from tools.docs import main

sys.exit(main(Path.cwd(), check="--check" in sys.argv))
