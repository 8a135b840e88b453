"""Steps on the host, recorded once and replayed: fewer and cheaper calls, the same bits."""
