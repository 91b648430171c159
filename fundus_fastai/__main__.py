"""`python -m fundus_fastai`: the command `fundus`, as `accelerate launch -m` wants it."""
import sys
from .cli import main

if __name__=="__main__": sys.exit(main())
