"""Steps of a batch that a C++ compiler has made one function of: the same bits for less."""
