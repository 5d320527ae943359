"""`python -m fasterseg.runtime`: the `fasterseg` program where the console script is not installed."""

from fasterseg.runtime.cli import main

if __name__ == "__main__":
    main()
