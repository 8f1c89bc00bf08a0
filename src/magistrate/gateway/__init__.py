"""Moderation over the network, for clients that can only be given an address. Extra `gateway`."""
