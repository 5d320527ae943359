"""One file per runtime: what prepares networks for it, runs and times them. `selection` chooses one of them."""
