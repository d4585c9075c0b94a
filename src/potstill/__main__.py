"""``python -m potstill``: the command line."""

from potstill.cli.main import entry

if __name__ == "__main__":
    entry()
