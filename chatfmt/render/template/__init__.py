"""Find and load chat templates: built-in, inline, from a file, a model folder or the Hub."""
