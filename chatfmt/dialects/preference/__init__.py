"""Dialects of preferences: chosen and rejected, scored or grouped answers; hh-rlhf texts are in chat.transcripts."""
