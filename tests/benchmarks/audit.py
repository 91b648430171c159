"""How fast is the audit, and what does it find? python tests/benchmarks/audit.py [N | FOLDER]

With a number: reads phantoms (scans and photographs) as the audit does and extrapolates to 90,000; asks all pairs of N (90,000)
descriptions, drawn as mixtures of real phantom ones, which lie as close together; says how many of 500 planted copies are among the
candidates, and how long the comparison of these takes, by the speed of a part of them.
With a folder of photographs: copies of 100 of them (turned by quarters and by 10 degrees, cropped by 8 % on each side, padded) are planted
among all; says how many of each kind are found, which pairs it claims of what was there before, how much of the time the search for turned
copies takes (with and without it, in turns), and how many of the eyes that are mirrored are told."""
import os, sys, tempfile, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from pathlib import Path
import cv2, numpy as np, pandas as pd
from PIL import Image, ImageOps
from fundus_fastai.data import audit as A
from fundus_fastai.data.odir import read_odir
from fundus_fastai.data.read import walk_images
from fundus_fastai.phantom.layouts import write_layout
from fundus_fastai.phantom.oct import write_kermany

def drawn(real, n, rng):
    "`n` unit vectors [n,256] with the covariance of the `real` ones"
    w,v = np.linalg.eigh(np.cov(real.T)); k = 64
    z = (rng.standard_normal((n,k))*np.sqrt(np.maximum(w[-k:], 0)))@v[:,-k:].T + real.mean(0)
    return (z/np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)

def speed(n=90_000):
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as d:
        sets = {'scans of 496 x 512':write_kermany(Path(d)/'oct', patients=40, leak=0, wide=0).path.tolist(),
                'photographs of 512':write_layout('odir5k', Path(d)/'fundus', patients=40).path.tolist()}
        real = []
        for k,paths in sets.items():
            t = time.perf_counter(); looks = A._look_at_all(paths, 2); t = time.perf_counter()-t
            real.append(looks.coarse)
            print(f'{k}: {len(paths)/t:.0f} a second with two threads; 90,000 in {90_000/len(paths)*t/60:.1f} minutes', flush=True)
    coarse = drawn(real[0], n, rng)
    copies = rng.choice(n//2, min(500, n//4), replace=False); at = n-1-np.arange(len(copies))
    c = coarse[copies]+.012*rng.standard_normal((len(copies),256)); coarse[at] = c/np.linalg.norm(c, axis=1, keepdims=True)
    t = time.perf_counter()
    pairs,v,cut = A._candidates(coarse)
    asked = time.perf_counter()-t
    found = set(map(tuple, pairs[:,:2].tolist())); hit = sum((min(a,b),max(a,b)) in found for a,b in zip(copies,at))
    print(f'{n:,} pictures: all {n*(n-1)//2*4:,} pairs and flips asked in {asked:.1f} s; {len(pairs):,} candidates, that agree by {cut:.3f} and more; '
          f'{hit} of {len(copies)} copies among them', flush=True)
    fine = A._shelf(2000, A.side, A.side); fine[:] = np.random.default_rng(1).integers(-60, 60, fine.shape)
    p = np.c_[rng.integers(0, 2000, (20_000,2)), rng.integers(0, 4, 20_000)]
    speed = {}
    for rows in (8,1):
        t = time.perf_counter(); A._distances(fine, p, rows); speed[rows] = len(p)/(time.perf_counter()-t)
    print(f'comparison: {speed[8]:.0f} pairs a second by every eighth row, {speed[1]:.0f} in full; all these candidates in {len(pairs)/speed[8]:.0f} s')

def ways(im, rng):
    "Kind -> a copy of `im` of that kind"
    w,h = im.size
    return {'quarter turns':im.transpose([Image.ROTATE_90,Image.ROTATE_180,Image.ROTATE_270][rng.integers(3)]),
            '10 degrees':im.rotate(10*rng.choice([-1,1]), resample=Image.BICUBIC),
            'cropped by 8 %':im.crop((round(.08*w),round(.08*h),round(.92*w),round(.92*h))),
            'padded':ImageOps.expand(im, (round(.15*w),0)),
            'mirrored, 17 degrees':ImageOps.mirror(im).rotate(17, resample=Image.BICUBIC)}

def planted(paths, n=100, seed=0):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as d:
        copies = {}
        for k in rng.choice(len(paths), min(n, len(paths)), replace=False):
            for way,im in ways(Image.open(paths[k]).convert('RGB'), rng).items():
                to = f'{d}/{len(copies)}.jpg'; im.save(to, quality=90); copies[to] = way,paths[k]
        a = A.audit(pd.DataFrame({'path':[*paths,*copies]}), shortcuts=False)
        of = dict(zip([*paths,*copies], [*paths,*(p for _,p in copies.values())]))
        pairs = a.pairs(); real = pairs[~pairs.path_a.isin(copies) & ~pairs.path_b.isin(copies)]
        found = {frozenset((o.path_a,o.path_b)) for o in pairs.itertuples()}
        for way in dict.fromkeys(w for w,_ in copies.values()):
            mine = [(c,p) for c,(w,p) in copies.items() if w==way]
            print(f'{way}: {sum(frozenset(o) in found for o in mine)} of {len(mine)}')
        same = {frozenset((o.path_a,o.path_b)) for o in real.itertuples()}
        odd = [o for o in pairs.itertuples() if of[o.path_a]!=of[o.path_b] and frozenset((of[o.path_a],of[o.path_b])) not in same]
        print(f'pairs with a copy of another picture, that the pictures themselves are not: {[(round(o.distance, 3), o.path_a, of[o.path_b]) for o in odd]}')
        print(f'{len(real)} pairs of what was there before:\n' + '\n'.join(f'  {o.distance:.3f} {Path(o.path_a).name} {Path(o.path_b).name}'
              + f' turned by {o.turned:.0f}'*(o.turned==o.turned) for o in real.itertuples()), flush=True)

def mirrored(df, share=.05, seed=0):
    "Of the eyes of `df`: how many are told as they are, and when a share of them is mirrored"
    flip = np.random.default_rng(seed).random(len(df))<share
    with tempfile.TemporaryDirectory() as d:
        paths = df.path.to_list()
        for what in ('given','mirrored'):
            if what=='mirrored':
                for k in np.flatnonzero(flip): ImageOps.mirror(Image.open(paths[k])).save(f'{d}/{k}.jpg', quality=90); paths[k] = f'{d}/{k}.jpg'
            t,asked = A._mirrored(df, A._look_at_all(paths, 2).disc)
            told = df.path.isin(t.path).to_numpy()
            print(f'eyes as {what}: {asked} of {len(df)} asked, {len(t)} told'
                  + (f', of them {(told&flip).sum()} of the {flip.sum()} that were mirrored' if what=='mirrored' else f': {t.path.map(os.path.basename).tolist()}'), flush=True)

def ratio(df, times=1):
    "How much longer the whole audit takes than without round fields, interleaved"
    whole,took = A.whole_circle,{'without':[], 'with':[]}
    for _ in range(times):
        for k,o in dict(zip(took, (lambda *o: None, whole))).items():
            A.whole_circle = o; t = time.process_time(),time.perf_counter()
            A.audit(df)
            took[k].append((time.process_time()-t[0], time.perf_counter()-t[1])); A.whole_circle = whole
    a,b = (np.median(took[k], axis=0) for k in took)
    print(f'without the search for turned copies {a[0]:.1f} s of processor time ({a[1]:.1f} s by the clock), with it {b[0]:.1f} ({b[1]:.1f}): {b[0]/a[0]:.2f} times', flush=True)

def main(what='90000', n=100, seed=0):
    cv2.setNumThreads(1)
    if what.isdigit(): return speed(int(what))
    df = read_odir(what) if (Path(what)/'full_df.csv').exists() else walk_images(what)
    planted(df.path.tolist(), int(n), int(seed))
    ratio(df)
    if 'eye' in df: mirrored(df)

if __name__=='__main__': main(*sys.argv[1:])
