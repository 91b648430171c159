"Run pages as a Colab would: python tests/colab --help"
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1]) # what tests share

from colab.harness import main

sys.exit(main())
