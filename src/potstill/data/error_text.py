"""What another library's error says, in a form that fits into one line."""

__all__ = ["reason"]


def reason(error: Exception) -> str:
    """The first line of ``error``'s message, or its type where it has none."""
    line = str(error).strip().split("\n")[0].rstrip(" .:")
    return line or type(error).__name__
