"""Give a chat template exact `{% generation %}` tags: cut it into pieces, learn which are trained, write it again."""
