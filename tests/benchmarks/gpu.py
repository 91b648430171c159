"""What only a GPU can tell: called by gpu.sh, which says how. python tests/benchmarks/gpu.py --out gpu.json [--small]

Each part is tried on its own, so that one that fails leaves its reason in the table, and the others their figures."""
import argparse, json, os, shutil, signal, subprocess, sys, tempfile, time
from contextlib import contextmanager
from pathlib import Path
import numpy as np, pandas as pd, timm, torch
from fundus_fastai.all import (Callback, eye_learner, get_task, occlusion, split_patients, write_kermany)
sys.path.insert(0, str(Path(__file__).parent))
from occlusion import best_dense, by_captum, windows

GPU = torch.cuda.is_available()
DEVICE = 'cuda' if GPU else 'cpu'

def settle():
    if GPU: torch.cuda.synchronize()

def best(f, rounds=3):
    "The answer of `f`, and its least seconds: the first round warms up"
    t = []
    for _ in range(rounds+1):
        settle(); t0 = time.perf_counter()
        res = f()
        settle(); t.append(time.perf_counter()-t0)
    return res,min(t[1:])

def machine():
    card = torch.cuda.get_device_properties(0) if GPU else None
    return dict(card=card.name if GPU else 'none (CPU)', card_gb=round(card.total_memory/1e9, 1) if GPU else None,
                cores=os.cpu_count(), python=sys.version.split()[0], torch=torch.__version__, timm=timm.__version__,
                cuda=torch.version.cuda, date=time.strftime('%Y-%m-%d'))

# --- training

class Clock(Callback):
    "Seconds of each training epoch, the GPU's work included"
    def before_train(self): settle(); self.t0 = time.perf_counter()
    def after_train(self): settle(); self.seconds = [*getattr(self, 'seconds', []), time.perf_counter()-self.t0]

@contextmanager
def same_batch(dl):
    "While inside, `dl` gives one ready batch of random tensors again and again, as often as it has batches"
    x,y = dl.one_batch()
    ready,cls = (torch.randn_like(x),y),type(dl)
    dl.__class__ = type('Same', (cls,), {'__iter__': lambda self: (ready for _ in range(len(self)))})
    try: yield
    finally: dl.__class__ = cls

def throughput(arch, size, df, bs, workers, amp, cache=False):
    "Images a second of whole training epochs: by the loader, on random tensors, and of the loader alone"
    dls = get_task('oct').dls(df, bs=bs, size=size, workers=workers, device=DEVICE, cache=cache)
    learn = eye_learner(dls, arch, None, precision='mixed' if amp else 'full')
    learn.unfreeze()
    if GPU: torch.cuda.reset_peak_memory_stats()
    n,rates = len(dls.train)*bs,{}
    def epochs():
        clock = Clock()
        with learn.no_bar(), learn.no_logging(): learn.fit(3, 1e-4, cbs=clock)
        return n/min(clock.seconds[1:])
    rates['images_s'] = epochs()
    with same_batch(dls.train): rates['tensors_s'] = epochs()
    def load():
        for b in dls.train: pass
    rates['loader_s'] = n/best(load, 1)[1]
    return dict(net=arch, size=size, bs=bs, workers=workers, mixed=bool(amp), cache=bool(cache), **{k: round(v, 1) for k,v in rates.items()},
                share=round(rates['images_s']/rates['tensors_s'], 3),
                gb=round(torch.cuda.max_memory_allocated()/1e9, 2) if GPU else None)

def training(small, tmp):
    df = write_kermany(tmp/'kermany', patients=24 if small else 320, size=(124,128) if small else (496,512))
    df = split_patients(df, seed=1)
    nets = [('resnet18',64),('resnet34',64)] if small else [('resnet50',224),('inception_v3',299)]
    bs = 8 if small else 64
    how = [(0,False,False),(0,False,True)] if small else [(2,True,True),(2,True,False),(8,True,False),(8,False,False)] # workers, mixed, cached
    return [throughput(a, s, df, bs, w, m, tmp/'cache' if c else False) for a,s in nets for w,m,c in how]

# --- a run, stopped and resumed

def command(out, small, *more):
    size,arch,epochs = (64,'resnet18',3) if small else (224,'resnet50',4)
    run = 'import sys; from fundus_fastai.cli import main; sys.exit(main())'
    return [sys.executable, '-W', 'ignore', '-c', run, 'train', 'oct', '--data', 'phantom', '--patients', '40',
            '--arch', arch, '--weights', 'none', '--size', size, '--epochs', epochs, '--bs', '16', '--maps', 4, '--out', out, *more]

def call(argv):
    t0 = time.perf_counter()
    p = subprocess.run(list(map(str, argv)), capture_output=True, text=True)
    if p.returncode: raise RuntimeError(f"exit status {p.returncode}: {p.stderr[-400:]}")
    return time.perf_counter()-t0

def killed(argv, out):
    "Start, wait for the second checkpoint, kill"
    p = subprocess.Popen(list(map(str, argv)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = set()
    while p.poll() is None and len(seen)<2:
        seen |= {o.stat().st_mtime_ns for o in (out/'checkpoints').rglob('last*')} if (out/'checkpoints').is_dir() else set()
        time.sleep(.01)
    if p.poll() is not None: raise RuntimeError("the run ended before it could be killed")
    p.send_signal(signal.SIGKILL)
    p.wait()

def resumed(small, tmp):
    "A run that was killed in its second epoch against one that was not"
    a,b = tmp/'whole',tmp/'resumed'
    seconds = call(command(a, small))
    killed(command(b, small), b)
    call(command(b, small, '--resume'))
    p,q = (pd.read_csv(o/'predictions.csv') for o in (a,b))
    cols = [o for o in p if o.startswith('p_')]
    m,k = (json.loads((o/'metrics.json').read_text())['metrics']['auc']['value'] for o in (a,b))
    return dict(seconds=round(seconds, 1), bytes_equal=(a/'predictions.csv').read_bytes()==(b/'predictions.csv').read_bytes(),
                largest_difference=float(np.abs(p[cols].to_numpy()-q[cols].to_numpy()).max()), auc_whole=m, auc_resumed=k,
                same_images=p.path.tolist()==q.path.tolist())

# --- occlusion

def settled(arch, size):
    "A net of random weights whose norms have seen some input: without, activations grow until float16 overflows"
    torch.manual_seed(0)
    net = timm.create_model(arch, num_classes=4).to(DEVICE)
    for m in net.modules():
        if hasattr(m, 'running_mean'): m.momentum = None
    with torch.no_grad():
        for _ in range(4): net(torch.randn(8, 3, size, size, device=DEVICE))
    return net.eval()

def maps(arch, size, window, stride):
    "Maps on windows against captum and against whole pictures in float32, and what float16 costs"
    net,x = settled(arch, size),torch.randn(1, 3, size, size, device=DEVICE)
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = 'ieee' # no TF32 for the others either
    a = net,x,window,stride
    mine,t = best(lambda: windows(*a))
    dense,td = best(lambda: best_dense(*a))
    cap,tc = best(lambda: by_captum(*a), 1)
    scale = float(net(x).abs().max())
    res = dict(net=arch, size=size, window=window, stride=stride, ms=round(1000*t, 1), to_captum=round(tc/t, 2),
               to_dense=round(td/t, 2), error=float((mine-dense).abs().max())/scale)
    if GPU:
        def half(): return occlusion(net, x, window, stride=stride, fill=0., target=0, progress=False, half=True).values[:,0]
        h,th = best(half)
        res |= dict(half_ms=round(1000*th, 1), half_error=float((h-dense).abs().max())/scale)
    return res

def occlusions(small, tmp):
    nets = [('resnet18',96)] if small else [('resnet50',224),('resnet50',448),('inception_v3',299),('tf_efficientnet_lite0',224)]
    return [maps(a, s, 32, 16) for a,s in nets]

# --- the table

def tried(f, *args):
    t0 = time.perf_counter()
    try: res = f(*args)
    except Exception as e: res = dict(failed=f'{type(e).__name__}: {str(e)[:500]}')
    print(f'\n{f.__name__} ({time.perf_counter()-t0:.0f} s)', flush=True)
    rows = res if isinstance(res, list) else [res]
    print(pd.DataFrame(rows).to_string(index=False) if len(rows)>1 else '\n'.join(f'  {k}: {v}' for k,v in rows[0].items()), flush=True)
    return res

def main(out, small, parts=()):
    if not GPU and not small: sys.exit("no NVIDIA GPU here: SMALL=1 rehearses on the CPU")
    tmp = Path(tempfile.mkdtemp())
    res = dict(rehearsal=small, machine=tried(machine))
    try:
        for f in (o for o in (occlusions,training,resumed) if not parts or o.__name__ in parts):
            res[f.__name__] = tried(f, small, tmp)
            Path(out).write_text(json.dumps(res, indent=1)+'\n') # what is measured is kept, should time run out
    finally: shutil.rmtree(tmp)
    sys.exit(any('failed' in o for o in res.values() if isinstance(o, dict)))

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', default='gpu.json'); p.add_argument('--parts', nargs='*', default=()); p.add_argument('--small', action='store_true')
    o = p.parse_args()
    main(o.out, o.small, o.parts)
