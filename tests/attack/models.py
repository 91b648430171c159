"Mutations of a run folder's files through `load_model` and `remake_report`: python tests/attack/models.py RUN [N] [SEED]"
import json, random, shutil, sys, tempfile, time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
import numpy as np, pandas as pd
from fundus_fastai.core import EyeError
from fundus_fastai.run.report import remake_report
from fundus_fastai.vision.model import load_model

ODD = [None, True, 0, -1, 3, 1e308, float('nan'), float('inf'), '', 'x', [], {}, [[]], [None], {'a':1}, 'é'*50, 10**30]

def places(o, at=()):
    "The place of each value in a nest of lists and dicts"
    yield at
    for k,v in (o.items() if isinstance(o, dict) else enumerate(o) if isinstance(o, list) else ()): yield from places(v, (*at,k))

def change(path, rng):
    "Mutate one file, and say how"
    b = bytearray(path.read_bytes())
    how = rng.choice(['flip','cut','double','drop','value'] if path.suffix=='.json' else ['flip','cut','double','drop'])
    if how=='value':
        o = json.loads(b)
        *head,last = rng.choice([p for p in places(o) if p])
        inner = o
        for k in head: inner = inner[k]
        inner[last] = rng.choice(ODD)
        path.write_text(json.dumps(o))
        return f'{path.name} {[*head,last]} = {inner[last]!r:.20}'
    if how=='drop': path.unlink()
    elif how=='cut': path.write_bytes(b[:rng.randrange(len(b))])
    else:
        i = rng.randrange(len(b))
        if how=='flip': b[i] ^= 1<<rng.randrange(8)
        else: b[i:i] = b[i:i+rng.randrange(1, 200)]
        path.write_bytes(b)
    return f'{path.name} {how}'

def ask(run, deed, image, want):
    "'fine' if the answer is the old one, or that of a sentence; else what went wrong"
    said = StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(said):
            if deed=='report': remake_report(run); return 'done'
            p = load_model(run, 'cpu').predict_frame(pd.DataFrame({'path':[image]})).select_dtypes('number').to_numpy()
    except EyeError: return 'told'
    except Exception as e: return f'UNFORESEEN {type(e).__name__}: {str(e)[:120]}'
    return 'same' if p.shape==want.shape and np.allclose(p, want, atol=1e-5) else 'WRONG without a word'

def attack(run, n=2000, seed=0):
    "Count what `n` mutations of the folder `run` come to"
    rng,image,found = random.Random(seed),np.random.default_rng(0).integers(0, 255, (80,90,3), np.uint8),Counter()
    want = load_model(run, 'cpu').predict_frame(pd.DataFrame({'path':[image]})).select_dtypes('number').to_numpy()
    files = sorted(f.name for f in Path(run).iterdir() if f.suffix in ('.json','.csv','.safetensors'))
    for _ in range(n):
        with tempfile.TemporaryDirectory() as d:
            to = Path(shutil.copytree(run, Path(d)/'run', ignore=shutil.ignore_patterns('*.html')))
            name = rng.choice(files)
            how = change(to/name, rng)
            for deed in ('predict','report') if name in ('config.json','model.safetensors') else ('report',):
                got = ask(to, deed, image, want)
                found[deed,got.split(' ')[0]] += 1
                if got[0].isupper(): print(f'{deed}: {how}: {got}', flush=True)
    return found

if __name__=='__main__':
    t = time.time()
    print(attack(Path(sys.argv[1]), *map(int, sys.argv[2:4])), f'{time.time()-t:.0f} s')
