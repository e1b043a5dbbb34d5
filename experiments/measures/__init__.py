"""What is true, computed exactly: beliefs, bits and values of JobWorld (docs/self-distillation.md)."""
