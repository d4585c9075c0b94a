"""Uses of small sets, one package for each."""

__all__: list[str] = []
