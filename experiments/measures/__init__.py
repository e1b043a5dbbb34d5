"""What is true, computed exactly: beliefs, bits and values of JobWorld (docs/sessions.md)."""
