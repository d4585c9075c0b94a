"""Labels, teachers and what they give."""
