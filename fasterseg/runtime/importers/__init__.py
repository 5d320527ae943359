"""Import of published programs' files into networks of this toolkit."""
