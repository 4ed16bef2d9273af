"""`python -m densenets`, which is how torchrun starts it."""

from densenets.cli.main import main

if __name__ == "__main__":
    main()
