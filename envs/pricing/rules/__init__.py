"""The rules of a shop, and seasons that keep them."""
