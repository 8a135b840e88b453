"""Players of games for two: beside perfect play, rated, and with a search."""
