"""The parts of ``compare``: the grid of what is asked for, its cells on disk, what can be told from them, the board."""
