"""Faces that other libraries know: a class for each, which calls the verbs."""
