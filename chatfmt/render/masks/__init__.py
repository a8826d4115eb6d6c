"""Find the spans of trained text in rendered conversations."""
