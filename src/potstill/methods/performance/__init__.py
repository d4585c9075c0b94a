"""Performance matching: what is stored descends the loss, on real samples, of students that were trained on it."""
