import os

os.environ["POTSTILL_OUTSIDE"] = "0"  # what is tested is Potstill, whatever other packages add to it on this machine
