"""Guards around rendering: content that a template loses, and control tokens inside content."""
