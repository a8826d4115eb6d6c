"""Resolve SOURCE (a file, folder, glob, URL or Hub id) to the data files of each split."""
