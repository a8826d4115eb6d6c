"""Render untrusted templates in a process without access to files or network, and with counted cost."""
