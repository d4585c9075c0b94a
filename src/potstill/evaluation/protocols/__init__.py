"""Protocols, one file each, named after who published them."""
