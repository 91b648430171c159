"Real images: parsers, and a short training that must learn. Skipped where FUNDUS_TEST_DATA is not set"
import time
import numpy as np, pandas as pd, pytest
from fundus_fastai.core import read_json
from fundus_fastai.data.catalog import read_csv, read_dataset
