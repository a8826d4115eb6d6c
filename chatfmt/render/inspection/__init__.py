"""Reports on chat templates: probe what one does, audit an untrusted one, compare two."""
