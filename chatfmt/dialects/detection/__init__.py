"""Which dialect fits a sample, or the error if none does; also the dialect `mixed`, which detects it for each row."""
