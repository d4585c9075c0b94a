"""Students that are no networks: one file each, registered by name in the group ``learners``."""
