"""Signed things: each is a Nostr event with a BIP340 signature."""
