"""Open files as streams of bytes: compression and text encodings."""
