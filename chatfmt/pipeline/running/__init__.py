"""Run a plan: its tasks on an executor, their shards to a folder, a file or a stream."""
