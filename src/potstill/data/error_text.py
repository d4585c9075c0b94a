"""One-line texts of other libraries' errors."""

__all__ = ["reason"]


def reason(error: Exception) -> str:
    """Return the first line of ``error``'s message, or its type if it has none."""
    line = str(error).strip().split("\n")[0].rstrip(" .:")
    return line or type(error).__name__
