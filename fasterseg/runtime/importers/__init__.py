"""Import of published programs' files: their names and rules on one side, networks of ours on the other."""
