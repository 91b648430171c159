"""How fast is the audit? python tests/benchmarks/audit.py [N]

Reads phantoms (scans and photographs) as the audit does and extrapolates to 90,000; builds and asks the index with N (90,000) descriptions,
drawn as mixtures of real phantom ones, which lie as close together; and says how many of 500 planted copies it finds among them."""
import os, sys, tempfile, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from pathlib import Path
import cv2, numpy as np
from scipy.spatial import cKDTree
from fundus_fastai.data import audit as A
from fundus_fastai.phantom.layouts import write_layout
from fundus_fastai.phantom.oct import write_kermany

def drawn(real, n, rng):
    "`n` unit vectors [n,256] with the covariance of the `real` ones"
    w,v = np.linalg.eigh(np.cov(real.T)); k = 64
    z = (rng.standard_normal((n,k))*np.sqrt(np.maximum(w[-k:], 0)))@v[:,-k:].T + real.mean(0)
    return (z/np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)

def main(n=90_000):
    cv2.setNumThreads(1)
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
    copies = rng.choice(n//2, 500, replace=False); at = n-1-np.arange(500)
    c = coarse[copies]+.012*rng.standard_normal((500,256)); coarse[at] = c/np.linalg.norm(c, axis=1, keepdims=True)
    t = time.perf_counter()
    axes = A._axes(coarse); tree = cKDTree(coarse@axes)
    built = time.perf_counter()-t; t = time.perf_counter()
    pairs = A._near(tree, coarse, axes, np.arange(n), 8)
    asked = time.perf_counter()-t
    found = set(map(tuple, pairs[:,:2])); hit = sum((min(a,b),max(a,b)) in found for a,b in zip(copies,at))
    print(f'index of {n:,}: built in {built:.1f} s, asked four times (flips) in {asked:.1f} s; {len(pairs):,} candidates of '
          f'{n*(n-1)//2*4:,} pairs; {hit} of 500 copies among them', flush=True)
    fine = np.random.default_rng(1).integers(-60, 60, (2000,A.side,A.side)).astype(np.int8)
    p = np.c_[rng.integers(0, 2000, (4000,2)), rng.integers(0, 4, 4000)]
    t = time.perf_counter(); A._distances(fine, p); t = (time.perf_counter()-t)/len(p)
    print(f'decision: {1/t:.0f} pairs a second; all these candidates in {len(pairs)*t:.0f} s')

if __name__=='__main__': main(*map(int, sys.argv[1:2]))
