"""What every Python of the runtime does first: put texts of our library, and an address of Kaggle's client, in other places.

The harness has no right to make `/content`, and no network: COLAB_PLACES is JSON, a dict of texts and what stands for them.
The room on the disk is a Colab's too: what is free on the machine that tests must not decide whether a page runs.
Files of our repository that a page asks GitHub for are those that lie here.
"""
import json, os, shutil, sys, urllib.request
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

PLACES = json.loads(os.environ.get('COLAB_PLACES', '{}'))

class Placed(SourceFileLoader):
    "Compiles a module with the texts in place; where there are none it is loaded as always"
    def get_code(self, fullname):
        src = new = self.get_source(fullname)
        for k,v in PLACES.items(): new = new.replace(k, v)
        return super().get_code(fullname) if new==src else compile(new, self.path, 'exec', dont_inherit=True)

class Finder:
    "Finds modules of ours and of Kaggle's client as Python does, and has them loaded by `Placed`"
    @staticmethod
    def find_spec(name, path=None, target=None):
        if not name.startswith(('fundus_fastai.','kagglesdk.kaggle_env')): return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader): spec.loader = Placed(spec.loader.name, spec.loader.path)
        return spec

def colab_disk(path, usage=shutil.disk_usage):
    "The disk of `path`; where that is the runtime's own, with a Colab's room: 71 of 108 GB free"
    runtime = PLACES['/content']
    if os.stat(path).st_dev!=os.stat(runtime).st_dev: return usage(path)
    return usage(path)._replace(total=108*10**9, used=37*10**9, free=71*10**9)

RAW,ROOT = 'https://raw.githubusercontent.com/fundus-fastai/fundus_fastai/main/',Path(__file__).parents[3]

def github(url, *args, ask=urllib.request.urlopen, **kwargs):
    "What is asked of the repository on GitHub comes from this one, all else from where it is"
    address = getattr(url, 'full_url', url)
    if address.startswith(RAW): url = (ROOT/address.removeprefix(RAW)).as_uri()
    return ask(url, *args, **kwargs)

if PLACES:
    urllib.request.urlopen = github
    sys.meta_path.insert(0, Finder)
    shutil.disk_usage = colab_disk
