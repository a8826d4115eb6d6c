"""Convert the rows of one task: mapping, dialect, selection, transforms, checks and view, batch by batch."""
