"""Plan a conversion: from a recipe and a sample of rows to tasks, an output and notes for the user."""
