"""The JSON and the event streams of the Messages API: read and written, nothing decided. Pure."""
