"""Thousands of mutations of a run folder's files through `load_model`, `predict`, `evaluate` and `report`.

python tests/attack/models.py [--n 2000] [--seed 0] [--run RUN --data OTHERS]: minutes, not in CI; a sample is in
tests/run/test_attacked_runs.py. Without a run, a tiny one is trained on phantoms. Each mutation of one file goes to the deeds that
read the file, all in this process. What may come of it: the answer of the sound run; an `EyeError`; another answer, and a word on
stderr that the sound run does not say. A fault is another answer without a word, and any other exception.
"""
import argparse, json, random, shutil, sys, tempfile, time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from fundus_fastai.core import EyeError, read_json
from fundus_fastai.data.catalog import make_phantom
from fundus_fastai.image.read import image_files
from fundus_fastai.options import DataOptions, TrainOptions
from fundus_fastai.run import report
from fundus_fastai.run.train import evaluate_run, predict_run, train_run

ODD = [None, True, 0, -1, 3, 1e308, float('nan'), float('inf'), '', 'x', [], {}, [[]], [None], {'a':1}, 'é'*50, 10**30]
DEEDS = {'config.json':('predict','evaluate','report'), 'model.safetensors':('predict','evaluate'), 'split.csv':('evaluate','report'),
         'validation.csv':('evaluate','report'), 'metrics.json':('predict','report'), 'predictions.csv':('report',),
         'history.csv':('report',), 'report.json':('report',), 'audit.json':('report',), 'SHA256SUMS':('predict','report')}
TEXT = b'0123456789abcdefgh.,-_"/{}[] \n'

def tiny_run(where)->tuple:
    "A run of a two-class task with operating points, and a folder of other patients"
    where = Path(where)
    for name,n in dict(data=24, others=8).items(): make_phantom('odir5k', where/name, n, seed=n)
    opts = TrainOptions('test_efficientnet', weights='none', size=32, bs=8, epochs=2, workers=0)
    train_run('sex', DataOptions(str(where/'data')), opts, maps=1, out=where/'run')
    return where/'run',where/'others'

def places(o, at=()):
    "The place of each value in a nest of lists and dicts"
    yield at
    for k,v in (o.items() if isinstance(o, dict) else enumerate(o) if isinstance(o, list) else ()): yield from places(v, (*at,k))

def change(path, rng)->str:
    "Mutate one file, and say how"
    b = bytearray(path.read_bytes())
    ways = ['flip','cut','double','lose']+['drop']*(rng.random()<.3)
    if path.suffix!='.safetensors': ways += ['letter','letter']
    if path.suffix=='.json': ways += ['value','value','without']
    how,i = rng.choice(ways),rng.randrange(len(b))
    if how in ('value','without'):
        o = json.loads(b)
        *head,last = rng.choice([p for p in places(o) if p])
        inner = o
        for k in head: inner = inner[k]
        was = inner[last]
        if how=='without': del inner[last]
        else: inner[last] = rng.choice([*ODD, was*1.5 if type(was) in (int,float) else was])
        path.write_text(json.dumps(o))
        return f'{path.name} {how} {[*head,last]}: {inner[last]!r:.20}' if how=='value' else f'{path.name} {how} {[*head,last]}'
    if how=='drop': path.unlink(); return f'{path.name} drop'
    if how=='flip': b[i] ^= 1<<rng.randrange(8)
    if how=='letter': b[i] = rng.choice(TEXT)
    if how=='cut': del b[i:]
    if how=='lose': del b[i:i+rng.randrange(1, 99)]
    if how=='double': b[i:i] = b[i:i+rng.randrange(1, 200)]
    path.write_bytes(b)
    return f'{path.name} {how} at {i}'

def answer(deed, run, data, images, **kwargs)->str:
    "What `deed` answers, as text"
    if deed=='predict': return predict_run(run, images, bs=2).to_csv(float_format='%.5f')
    if deed=='report': s,out = report.remake_report(run, date='today'),run
    else: s,out = evaluate_run(run, str(data), maps=0, out=run.parent/'evaluation', force=True, **kwargs),run.parent/'evaluation'
    return json.dumps(s.to_json())+(out/'report.html').read_text()

def ask(deed, run, data, images, **kwargs)->tuple:
    "The answer, or the kind of error, and what was said"
    said = StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(said): res = answer(deed, run, data, images, **kwargs)
    except EyeError as e:
        one = str(e).strip() and len(str(e))<2000
        return ('refused' if one else f'SENTENCE of {len(str(e))} letters'),said.getvalue()
    except Exception as e: return f'UNFORESEEN {type(e).__name__}: {str(e)[:150]}',said.getvalue()
    return ('answer',res),said.getvalue()

def verdict(got, sound)->str:
    "What came of a mutation; a fault begins with a capital"
    (res,said),(want,usual) = got,sound
    if isinstance(res, str): return res
    if res==want: return 'same'
    news = set(said.replace('\r','\n').splitlines())-set(usual.replace('\r','\n').splitlines())
    return 'another answer, told' if news else 'WRONG without a word'

def attack(run, data, n=2000, seed=0, **kwargs)->tuple:
    "Counts of what `n` mutations of the folder `run` come to, by deed, and the faults; `kwargs` go to `evaluate_run`"
    rng,found,faults = random.Random(seed),Counter(),[]
    images = image_files(data)[:3]
    files = sorted(f for f in DEEDS if (Path(run)/f).exists())
    with tempfile.TemporaryDirectory() as d:
        def fresh():
            for o in ('run','evaluation'): shutil.rmtree(Path(d)/o, ignore_errors=True)
            return Path(shutil.copytree(run, Path(d)/'run', ignore=shutil.ignore_patterns('*.html')))
        sound = {deed: ask(deed, fresh(), data, images, **kwargs) for deed in ('predict','evaluate','report')}
        assert all(o[0][0]=='answer' for o in sound.values()), sound
        assert all(ask(k, fresh(), data, images, **kwargs)==o for k,o in sound.items()), 'not the same twice'
        for _ in range(n):
            name,to = rng.choice(files),fresh()
            how = change(to/name, rng)
            for deed in DEEDS[name]: # each finds what the one before has left
                was = verdict(ask(deed, to, data, images, **kwargs), sound[deed])
                found[deed,was.split(':')[0]] += 1
                if was[0].isupper(): faults.append(f'{deed}: {how}: {was}')
    return found,faults

def coarse(fig)->bytes:
    "As `png_bytes` of the report, with few dots: drawing is most of the time"
    f = BytesIO()
    fig.savefig(f, format='png', dpi=30, metadata={'Software':None})
    return f.getvalue()

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--n', type=int, default=2000, help='mutations')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--run', help='a finished run')
    p.add_argument('--data', help='images of other patients than it has seen')
    o = p.parse_args()
    report.png_bytes = coarse
    with tempfile.TemporaryDirectory() as d:
        run,data = (o.run,o.data) if o.run else tiny_run(d)
        t = time.time()
        found,faults = attack(Path(run), data, o.n, o.seed)
    for k,v in sorted(found.items()): print(f'{v:6} {k[0]:9} {k[1]}')
    for f in faults: print('  ', f)
    print(f'{o.n} mutations, seed {o.seed}, {sum(found.values())} deeds, {len(faults)} faults, {time.time()-t:.0f} s')
    sys.exit(bool(faults))
