"""Find disguises in text: hidden characters, look-alikes, encodings. Pure."""
