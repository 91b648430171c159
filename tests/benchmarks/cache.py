"""What does it gain to decode once? python tests/benchmarks/cache.py [--scans N] [--predict] [--out FILE.json]

Ratios of ways that take turns in one process; absolute figures are of the machine at hand, busy or not.
Phantom scans (N files, each with bytes of its own) and photographs of 3,000 pixels. It measures
  build      files a second into the cache, with one thread and with all
  loader     items a second of one process: `eye_dls` from files, from the cache, and fastai's own loader that opens files
  epoch      a training epoch from the cache against the same epoch on random pixels that lie in memory (same augmentation, same net)
  photograph decoding one of 3,000 pixels against copying its row
  open       processor seconds to open an index of 90,000 rows
and with `--predict` the peak memory of `predict_run` for 2,000 and for 10,000 files."""
import argparse, json, os, platform, subprocess, sys, tempfile, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ.setdefault(k, '1')
from pathlib import Path
import cv2, numpy as np, pandas as pd, torch
from fastai.vision.all import CategoryBlock, ColReader, ColSplitter, DataBlock, ImageBlock, PILImageBW, Resize
from fundus_fastai.core import write_json
from fundus_fastai.image import cache as C
from fundus_fastai.phantom.fundus import phantom_fundus
from fundus_fastai.phantom.oct import write_kermany
from fundus_fastai.vision.data import CachedDL, OpenEye, eye_dls, squish
from fundus_fastai.vision.learner import eye_learner

def scans(d, n):
    "`n` scans as a frame; copies get bytes of their own behind the picture, so that each is a row of its own"
    drawn = write_kermany(d/'oct', patients=40, leak=0)
    rows = []
    for i in range(n):
        o = drawn.iloc[i%len(drawn)]
        f = d/'scans'/f'{i}.jpeg'
        f.parent.mkdir(exist_ok=True)
        f.write_bytes(Path(o.path).read_bytes()+str(i).encode())
        rows.append(dict(path=str(f), patient=str(i), label=o.label, split='valid' if i%5==0 else 'train'))
    return pd.DataFrame(rows)

def spent(f):
    "Seconds that `f` takes, on the clock and of the processor"
    t,c = time.perf_counter(),time.process_time()
    f()
    return time.perf_counter()-t,time.process_time()-c

def read(dl):
    "Take what the loader gives before batches are transformed, as a worker process would"
    n = sum(len(o[0]) for o in dl.create_batches(range(dl.n)))
    assert dl.n-dl.bs<n<=dl.n # the last batch of training is left out where it is not full

def turns(ways, rounds):
    "Least processor seconds of each of `ways`, which take turns; the clock's too"
    res = {k:[] for k in ways}
    for _ in range(rounds):
        for k,f in ways.items(): res[k].append(spent(f))
    return {k:dict(clock=min(o[0] for o in v), cpu=min(o[1] for o in v)) for k,v in res.items()}

def build(df, d):
    "Files a second into the cache"
    opener,fit,out = OpenEye('oct', None, 224),squish(224),{}
    def cook(path): return np.asarray(fit(opener(path), split_idx=1))
    paths = df.path[:200].tolist()
    for name,k in dict(one=1, all=os.cpu_count()).items():
        real,C.ThreadPoolExecutor = C.ThreadPoolExecutor,lambda: real(k)
        try: t = spent(lambda: C.open_cache(d/name, paths, cook, shape=(224,224), about=dict(size=224)))[0]
        finally: C.ThreadPoolExecutor = real
        out[f'{name}_per_second'] = len(paths)/t
    return out

def loaders(df, d):
    "Items a second of one process: three ways"
    kw = dict(size=224, bs=32, workers=0, device='cpu')
    t = df.assign(v=df.split=='valid')
    plain = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_x=ColReader('path'), get_y=ColReader('label'), splitter=ColSplitter('v'),
                      item_tfms=Resize(224, method='squish')).dataloaders(t, bs=32, num_workers=0, device='cpu')
    files,cached = eye_dls(df, **kw),eye_dls(df, cache=d/'cache', **kw)
    def files_once():
        for _ in plain.train.create_batches(range(few)): pass
    def ours_once():
        for _ in files.train.create_batches(range(few)): pass
    n = cached.train.n//32*32 # what whole batches hold
    few = min(256, n)
    res = turns(dict(fastai=files_once, files=ours_once, cache=lambda: read(cached.train)), 3)
    rate = {k:(n if k=='cache' else few)/v['cpu'] for k,v in res.items()}
    return dict(per_core_second=rate, cache_to_files=rate['cache']/rate['files'], cache_to_fastai=rate['cache']/rate['fastai'])

class RandomDL(CachedDL):
    "Random pixels in memory in place of the cache's"
    def rows(self, some):
        if not hasattr(self, 'pixels'): self.pixels = torch.randint(0, 256, (self.bs,1,224,224), dtype=torch.uint8)
        return self.kind(self.pixels[:len(some)]),*(y[some] for y in self.ys)

def epochs(df, d, arch='resnet10t', n=64):
    "Seconds of a training epoch from the cache, to those on random pixels"
    part = pd.concat([df[df.split=='train'][:n], df[df.split=='valid'][:16]])
    dls = eye_dls(part, size=224, bs=16, cache=d/'cache', device='cpu')
    learn = eye_learner(dls, arch, 'none')
    def epoch(kind):
        for o in dls.loaders: o.__class__ = kind
        with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-4)
    epoch(CachedDL)
    res = turns(dict(cache=lambda: epoch(CachedDL), random=lambda: epoch(RandomDL)), 2)
    return dict(arch=arch, images=n, ratio_cpu=res['cache']['cpu']/res['random']['cpu'], ratio_clock=res['cache']['clock']/res['random']['clock'])

def photograph(d):
    "Milliseconds to decode a photograph of 3,000 pixels for a net of 224, and to copy its row"
    im = cv2.resize(phantom_fundus(size=512, seed=1).image, (3000,3000), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).integers(0, 10, im.shape, np.uint8) # as a camera's, or the file would be small
    cv2.imwrite(str(d/'big.jpeg'), cv2.add(im, noise)[...,::-1])
    opener,fit,path = OpenEye('fundus', 'color', 224),squish(224),str(d/'big.jpeg')
    def cook(o): return np.asarray(fit(opener(o), split_idx=1))
    c = C.open_cache(d/'photo', [path], cook, shape=(224,224,3), about=dict(size=224))
    at = c.places([path])
    res = turns(dict(decode=lambda: cook(path), row=lambda: [c.take(at) for _ in range(100)]), 5)
    a,b = res['decode']['cpu'],res['row']['cpu']/100
    return dict(file_mb=os.path.getsize(path)/1e6, decode_ms=1e3*a, row_ms=1e3*b, ratio=a/b)

def opening(d):
    "Processor seconds to open 90,000 rows"
    (d/'many').mkdir()
    with C.ShardWriter(d/'many', (4,4), 90_000) as w:
        w.tell([[f'/data/kermany/OCT2017/train/CNV/CNV-{i}-1.jpeg',60_000+i,1790000000000000000+i,f'{i:064x}',
                 *w.put(np.zeros((4,4), np.uint8))] for i in range(90_000)])
    return min(spent(lambda: C.PixelCache(d/'many', (4,4)))[1] for _ in range(3))

MEMORY = """
import resource, sys
from fundus_fastai.run.train import predict_run
t = predict_run(sys.argv[1], [sys.argv[2]], 'cpu', out=sys.argv[3], force=True, keep=False)
print(t.attrs['rows'], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)
"""

def memory(d, counts=(2_000,10_000)):
    "Peak megabytes of `predict_run` by number of files, which are links to a few small pictures"
    from fundus_fastai.options import TrainOptions
    from fundus_fastai.run.train import train_run
    os.environ['FUNDUS_HOME'] = str(d/'home')
    train_run('oct', opts=TrainOptions('test_resnet', weights='none', size=32, epochs=1, freeze_epochs=0, workers=0), out=d/'run', maps=0)
    few,out = [],{}
    for i,f in enumerate(sorted((d/'oct').rglob('*.jpeg'))[:20]):
        few.append(d/f'small{i}.png')
        cv2.imwrite(str(few[-1]), cv2.resize(cv2.imread(str(f), 0), (48,48)))
    for n in counts:
        (folder := d/f'of{n}').mkdir()
        for i in range(n): (folder/f'{i:06}.png').symlink_to(few[i%len(few)])
        t = time.perf_counter()
        r = subprocess.run([sys.executable, '-W', 'ignore', '-c', MEMORY, str(d/'run'), str(folder), str(d/f'{n}.csv')],
                           capture_output=True, text=True, check=True)
        rows,mb = map(float, r.stdout.split())
        assert rows==n
        out[n] = dict(peak_mb=mb, per_second=n/(time.perf_counter()-t))
    return out

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--scans', type=int, default=2000)
    p.add_argument('--predict', action='store_true')
    p.add_argument('--out')
    o = p.parse_args()
    torch.set_num_threads(1)
    res = dict(cores=os.cpu_count(), python=platform.python_version(), torch=torch.__version__, load=os.getloadavg()[0])
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        df = scans(d, o.scans)
        parts = dict(build=lambda: build(df, d), loader=lambda: loaders(df, d), photograph=lambda: photograph(d), open_90000_s=lambda: opening(d),
                     epoch=lambda: epochs(df, d), **(dict(predict=lambda: memory(d)) if o.predict else {}))
        for k,f in parts.items():
            res[k] = f()
            print(k, json.dumps(res[k]), flush=True)
            if o.out: write_json(o.out, res)

if __name__=='__main__': main()
