"""The traced engine: compile a template into programs, and run them over columns of conversations."""
