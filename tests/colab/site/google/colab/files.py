"Files to and from the reader's own machine: the folders `upload` and `downloaded` beside the runtime"
import os, shutil
from pathlib import Path

def _beside(name): return Path(os.environ['COLAB_STUB']).parent/name

def upload(*args, **kwargs):
    "All files of `upload`, put where the notebook is"
    res = {o.name:o.read_bytes() for o in sorted(_beside('upload').glob('*'))}
    for k,v in res.items(): Path(k).write_bytes(v)
    return res

def download(filename):
    "Copy a file to `downloaded`"
    if not os.path.exists(filename): raise FileNotFoundError(f'Cannot find file: {filename}')
    _beside('downloaded').mkdir(exist_ok=True)
    shutil.copy(filename, _beside('downloaded'))
