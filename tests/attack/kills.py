"""Kill `fundus` in the middle of its work, then call it again: python tests/attack/kills.py --what train [--n 20] [--seed 0] [--real]

WHAT: some of train, compare, explain, audit, download, predict, vessels, lesions, atlas, biomarkers, benchmark. Minutes, not in CI; a sample is in tests/cli/test_kills.py. An unkilled
run tells how long the work takes and what it leaves. Then, `n` times in an empty folder: begin, send SIGKILL (every third time SIGINT)
at a random moment of that time, look at what lies there, and call again, with --resume where the verb has it. What was left must
not pass for whole, and what lies there in the end is what the unkilled run left, to the byte where that is promised, and nothing else.

Importing torch takes longer than the work, and nothing is written meanwhile. So one process imports it and forks a child for each
command: a process of its own which does from there what `fundus` does and is killed for good. `--real` kills the program itself.
"""
import argparse, hashlib, json, os, random, shutil, signal, subprocess, sys, tempfile, time
from collections import Counter
from pathlib import Path
import numpy as np, pandas as pd
from PIL import Image

NET = ['--weights','none','--size',32,'--bs',8,'--workers',0]
PHANTOM = ['--data','phantom','--patients',14,'--seed',3]
TIMES = 'seconds','minutes','train_images_s','infer_images_s','memory_mb','memory_of' # measured, not the same twice

SERVER = """
import sys; sys.path.insert(0, {tests!r})
from random import Random
from stub_kaggle import KaggleStub, make_zip
class Slowly(list):
    def __bool__(self): return True
    def pop(self, i): return 'slow', 30_000
draw = Random(0)
with KaggleStub(make_zip({{f'eyes/{{k}}.png': draw.randbytes(9_000) for k in range(120)}})) as k:
    k.store = Slowly()
    print(k.url, flush=True)
    sys.stdin.read()
"""

BAD = 'Traceback','did not foresee'

def digest(f): return hashlib.sha256(Path(f).read_bytes()).hexdigest()[:12]
def files(d): return {o.relative_to(d).as_posix():o for o in sorted(Path(d).rglob('*')) if not o.is_dir() or o.name[0]=='.'}

def content(f)->object:
    "What is to be the same again in a file: its bytes, but for what was measured"
    t = None
    if f.suffix in ('.csv','.part') and f.name in ('history.csv','runs.csv','compare.csv'): t = pd.read_csv(f)
    if t is not None: return t.drop(columns=[o for o in t if o in TIMES]).to_csv()
    if f.name=='cost.json': return {k:v for k,v in json.loads(f.read_text()).items() if k not in TIMES}
    if f.name=='SHA256SUMS': return [o for o in f.read_text().splitlines() if 'history.csv' not in o]
    if f.name=='compare.png': return True # drawn from what was compared already
    return digest(f)

def odd_run(d, sound)->str:
    "What is wrong with a run folder that a kill left: `sound` is the folder of the unkilled run"
    from fundus_fastai.core import EyeError
    from fundus_fastai.run.folder import finished
    from fundus_fastai.vision.model import load_model
    if not d.exists(): return ''
    later = {'cost.json'} # what a comparison measures once a run is finished
    if finished(d) and any(content(d/k)!=content(f) for k,f in files(sound).items() if (d/k).exists() or k not in later):
        return 'looks finished, and is not'
    try: load_model(d, 'cpu')
    except EyeError: return ''
    return '' if digest(d/'model.safetensors')==digest(sound/'model.safetensors') else 'another model loads'

class Train:
    "`fundus train`, the drawing of its phantoms included"
    def words(self, to): return ['train','oct',*PHANTOM,*NET,'--arch','test_efficientnet','--epochs',3,'--maps',1,'--out',to/'out']
    def again(self, to): return [*self.words(to),'--resume']
    def half(self, to, sound): return odd_run(to/'out', sound/'out')
    def prepare(self, fork, where): pass
    def done(self, to): return False
    def same(self, a, b): return content(a)==content(b)

class Compare(Train):
    def words(self, to):
        return ['compare','oct',*PHANTOM[:-2],*NET,'--archs','test_efficientnet,test_resnet','--epochs',1,'--out',to/'out']
    def half(self, to, sound):
        said = [odd_run(to/'out'/o.name, o) for o in (sound/'out').iterdir() if o.is_dir()]
        return '; '.join(filter(None, said))

class Predict(Train):
    "`fundus predict`, into a file"
    def prepare(self, fork, where):
        out = where/'model'
        (where/'home').mkdir(exist_ok=True)
        words = ['train','oct',*PHANTOM,*NET,'--arch','test_efficientnet','--epochs',1,'--maps',0,'--out',out]
        assert fork(words, where/'home').wait()[0]==0
        self.run,self.images = out,sorted((where/'home').rglob('*.jpeg'))
        assert len(self.images)>30
    def words(self, to): return ['predict',self.run,*self.images,'--bs',4,'--out',to/'out/table.csv']
    def done(self, to): return (to/'out/table.csv').exists() # a whole table is not gone on with
    def half(self, to, sound):
        f = to/'out/table.csv'
        return 'the table lies there, and is not whole' if f.exists() and not self.same(f, sound/'out/table.csv') else ''
    def same(self, a, b):
        "As other batches count: the last digit may differ"
        if a.suffix=='.csv':
            x,y = pd.read_csv(a),pd.read_csv(b)
            num = x.select_dtypes('number').columns
            return list(x)==list(y) and x.drop(columns=num).equals(y.drop(columns=num)) and np.allclose(x[num], y[num], atol=2e-5, equal_nan=True)
        if a.suffix=='.npz':
            with np.load(a) as x,np.load(b) as y:
                return x.files==y.files and all(np.allclose(x[k], y[k], atol=2e-5, equal_nan=True) if x[k].dtype.kind=='f' else (x[k]==y[k]).all() for k in x.files)
        if a.suffix=='.png': return int(abs(np.asarray(Image.open(a)).astype(int)-np.asarray(Image.open(b))).max())<=2
        return content(a)==content(b)

class Explain(Predict):
    def done(self, to): return False
    def words(self, to): return ['explain',self.run,*self.images[::2],'--window',8,'--stride',4,'--out',to/'out']
    def half(self, to, sound):
        bad = [k for k,f in files(to/'out').items() if f.name[0]!='.' and f.name!='maps.csv' and not self.same(f, sound/'out'/k)]
        return f'{bad} lie there, and are not whole' if bad else ''

class Audit(Train):
    def prepare(self, fork, where):
        assert fork(['phantom','kermany2018','--to',where/'data','--patients',16], where).wait()[0]==0
        self.data = where/'data'
    def words(self, to): return ['audit',self.data,'--out',to/'out']
    def again(self, to): return [*self.words(to),'--force']
    def half(self, to, sound):
        bad = [k for k,f in files(to/'out').items() if f.name[0]!='.' and content(f)!=content(sound/'out'/k)]
        return f'{bad} lie there, and are not whole' if bad else ''

class Vessels(Predict):
    "`fundus vessels`, and what is like it"
    verb,last,n = 'vessels','features.csv',8
    def prepare(self, fork, where):
        assert fork(['phantom','odir5k','--to',where/'data','--patients',12], where).wait()[0]==0
        self.data,self.images = where/'data',sorted(o for o in (where/'data').rglob('*.jpg') if 'truth' not in str(o))[:self.n]
        assert len(self.images)==self.n
    def done(self, to): return (to/'out'/self.last).exists()
    def words(self, to): return [self.verb,*self.images,'--out',to/'out']
    def again(self, to): return [*self.words(to),'--resume']
    def half(self, to, sound):
        bad = [k for k,f in files(to/'out').items() if f.name[0]!='.' and '.part' not in f.name and content(f)!=content(sound/'out'/k)]
        return f'{bad} lie there, and are not whole' if bad else ''

class Lesions(Vessels): verb,last = 'lesions','counts.csv'

class Atlas(Vessels):
    "`fundus atlas` of photographs, over which another one may stand"
    verb,last = 'atlas','report.html'
    def done(self, to): return False
    def words(self, to): return ['atlas','photographs','--data',self.data,'--permutations',200,'--width',64,'--out',to/'out']
    def again(self, to): return [*self.words(to),'--force']

class Biomarkers(Atlas):
    "`fundus biomarkers`"
    def words(self, to): return ['biomarkers',self.data,'--confirm',0,'--out',to/'out']

class Benchmark(Predict):
    "`fundus benchmark`"
    def done(self, to): return False
    def words(self, to): return ['benchmark',self.run,'--methods','grad_cam','--out',to/'out']
    def again(self, to): return [*self.words(to),'--force']
    half = Audit.half

class Download(Train):
    def prepare(self, fork, where):
        code = SERVER.format(tests=str(Path(__file__).parents[1]))
        self.server = subprocess.Popen([sys.executable,'-c',code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        os.environ |= dict(KAGGLE_API_TOKEN='KGAT_stub', NO_PROXY='*', ATTACK_KAGGLE=self.server.stdout.readline().strip())
        as_kaggle()
    def words(self, to): return ['download','vietai2020','--to',to/'out']
    again = words
    def half(self, to, sound):
        have = files(to/'out') if (to/'out').exists() else files(sound/'out')
        bad = have.keys()!=files(sound/'out').keys() or any(content(f)!=content(sound/'out'/k) for k,f in have.items())
        return 'the folder lies there, and is not whole' if bad else ''

def as_kaggle():
    "Point Kaggle's client to the stub"
    from kagglesdk.kaggle_env import KaggleEnv, _env_to_endpoint
    _env_to_endpoint[KaggleEnv.PROD] = os.environ['ATTACK_KAGGLE']

WORK = dict(train=Train, compare=Compare, explain=Explain, audit=Audit, download=Download, predict=Predict, vessels=Vessels,
            lesions=Lesions, atlas=Atlas, biomarkers=Biomarkers, benchmark=Benchmark)

class Forked:
    "`fundus WORDS` in a fork of this process"
    def __init__(self, words, home):
        self.said = tempfile.NamedTemporaryFile('r+', prefix='said-')
        self.pid = os.fork()
        if self.pid: return
        try: self.child(list(map(str, words)), home)
        finally: os._exit(99) # whatever happens, no child goes on as its parent
    def child(self, words, home):
        import torch
        from fundus_fastai.cli import main
        status = 99
        try:
            os.environ['FUNDUS_HOME'] = str(home)
            os.chdir(home)
            for k in (1,2): os.dup2(self.said.fileno(), k)
            torch.seed(); np.random.seed(); random.seed() # a fork repeats its parent's chance, a new process does not
            signal.signal(signal.SIGINT, signal.default_int_handler) # a job in the background inherits one that ignores it
            status = main(words)
        except SystemExit as e: status = e.code
        except BaseException: import traceback; traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_IGN) # the work is done
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(status)
    def kill(self, sig): os.kill(self.pid, sig)
    def wait(self):
        "Exit status, and what it said"
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.said.seek(0)
        with self.said as f: return status,f.read()

REAL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
if os.environ.get('ATTACK_KAGGLE'): sys.path.insert(0, {here!r}); import kills; kills.as_kaggle()
from fundus_fastai.cli import main
sys.exit(main())
"""

class Real(Forked):
    "`fundus WORDS` from its first import on"
    def __init__(self, words, home):
        self.said = tempfile.NamedTemporaryFile('r+', prefix='said-')
        code = REAL.format(here=str(Path(__file__).parent))
        self.p = subprocess.Popen([sys.executable,'-c',code,*map(str, words)], stdout=self.said, stderr=self.said, cwd=home,
                                  env=os.environ|dict(FUNDUS_HOME=str(home)))
        self.pid = self.p.pid
    def wait(self):
        status = self.p.wait()
        self.said.seek(0)
        with self.said as f: return status,f.read()

def one(work, start, to, sound, *, when, sig, ends)->str:
    "Kill once, call again; what was wrong, or how far it had come"
    to.mkdir()
    p = start(work.words(to), to)
    time.sleep(when)
    p.kill(sig)
    status,said = p.wait()
    stage = 'before the end' if status in (130,-sig) else 'after the end'
    if any(o in said for o in BAD): return f'FAULT: when stopped: {said[max(0, min(i for i in map(said.find, BAD) if i>=0)-300):][:1200]}'
    if sig==signal.SIGINT and status not in (130,0,1): return f'FAULT: Ctrl-C gives status {status}: {said[-300:]}'
    if any(o.name[0]=='.' for o in to.rglob('*')): stage = 'in the middle of a file'
    elif not (to/'out').exists(): stage = 'with no folder yet'
    if bad := work.half(to, sound): return f'FAULT: after the kill: {bad}'
    if work.done(to): return 'stopped after the end, and equal in the end'
    status,said = start(work.again(to), to).wait()
    if status!=ends or 'Traceback' in said: return f'FAULT: the second call ends with {status}: {said[-600:]}'
    a,b = files(to),files(sound)
    if a.keys()!=b.keys(): return f'FAULT: left {sorted(a.keys()-b.keys())}, lost {sorted(b.keys()-a.keys())}'
    if bad := [k for k in b if not work.same(a[k], b[k])]:
        return f'FAULT: not as without a kill: {bad}; {content(a[bad[0]])}, not {content(b[bad[0]])}'
    return f"stopped {stage}, and equal in the end{'' if all(content(a[k])==content(b[k]) for k in b) else ' but for last digits'}"

def attack(what, n=20, seed=0, real=False)->tuple:
    "What `n` kills come to, the faults, and the length of the unkilled run"
    rng,found,faults,work = random.Random(seed),Counter(),[],WORK[what]()
    with tempfile.TemporaryDirectory(prefix='kills-') as d:
        d,start = Path(d),Real if real else Forked
        try:
            work.prepare(Forked, d)
            (sound := d/'sound').mkdir()
            t = time.time()
            status,said = start(work.words(sound), sound).wait()
            took = time.time()-t
            assert status in (0,1) and files(sound/'out'), said # 1: an audit that finds a leak
            for i in range(n):
                sig = signal.SIGINT if i%3==2 else signal.SIGKILL
                when = rng.uniform(.02, 1)*took
                res = one(work, start, d/str(i), sound, when=when, sig=sig, ends=status)
                found[res.split(':')[0]] += 1
                if res[:5]=='FAULT': faults.append(f'{sig.name} after {when:.2f} of {took:.2f} s: {res}')
                shutil.rmtree(d/str(i))
        finally:
            if hasattr(work, 'server'): work.server.communicate('')
    return found,faults,took

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--what', nargs='+', choices=list(WORK), required=True)
    p.add_argument('--n', type=int, default=20, help='kills')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--real', action='store_true', help='the program itself, imports and all')
    o = p.parse_args()
    import fundus_fastai.run.compare, fundus_fastai.run.train, fundus_fastai.data.audit, fundus_fastai.data.kaggle, sklearn.linear_model
    import fundus_fastai.run.benchmark, fundus_fastai.anatomy.biomarkers, fundus_fastai.anatomy.lesion_net, fundus_fastai.anatomy.measures
    wrong = 0
    for what in o.what:
        t = time.time()
        found,faults,took = attack(what, o.n, o.seed, o.real)
        for k,v in sorted(found.items()): print(f'{v:4} {k}')
        for f in faults: print('  ', f)
        print(f"{what}: {o.n} kills{' of the program itself' if o.real else ''}, seed {o.seed}, {len(faults)} faults, an unkilled run "
              f"takes {took:.1f} s; {time.time()-t:.0f} s in all", flush=True)
        wrong += len(faults)
    sys.exit(bool(wrong))
