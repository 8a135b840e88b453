"""The player in JavaScript, its style and its page."""
