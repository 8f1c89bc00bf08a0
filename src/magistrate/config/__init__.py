"""Configuration files: YAML with positions, and every problem by file, line and column."""
