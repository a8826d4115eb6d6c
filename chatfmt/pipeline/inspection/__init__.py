"""Look at data before converting it: inspect sources, preview rows, list problems, compare templates."""
