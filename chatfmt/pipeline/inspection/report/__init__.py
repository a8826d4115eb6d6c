"""The report: one page with the figures of a dataset, where its columns go, and rows to read."""
