"""The story of one exchange. No I/O, no clock, no SDK, no storage."""
