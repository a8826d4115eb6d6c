"""`--group-by`: make one row of all rows of a conversation, sorted on disk, before the source is cut into shards."""
