"""An agent that plays in a web page: its network and the environment's rules in one HTML file, without a network.

The rules, the random numbers and the operators of the network are written once more in JavaScript (``player/``), and
tests hold them to the tensor code: an episode in the page is the episode that ``palaestra evaluate`` plays.
"""
