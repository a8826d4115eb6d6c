"""Divide files into input splits that tasks can read independently."""
