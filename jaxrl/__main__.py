"""`python -m jaxrl` is the command line."""

from jaxrl.cli import main

if __name__ == "__main__":
    main()
