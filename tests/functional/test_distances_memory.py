"""What distances of many rows leave on the heap: next to nothing, though a pass makes large temporaries."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from potstill.functional.coreset import k_center
torch.set_num_threads(1)
x = torch.randn(200_000, 256)
k_center(x[:100], 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
k_center(x, 3)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (4 * x.numel()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are counted in KiB there, and the heap is glibc's")
def test_a_pass_over_large_rows_leaves_no_second_copy_of_them() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.3
