"""What a reader sees in a text: hidden characters, look-alikes, encodings, size. Pure."""
