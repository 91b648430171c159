"""How fast is the audit? python tests/benchmarks/audit.py [N]

Reads phantoms (scans and photographs) as the audit does and extrapolates to 90,000; asks all pairs of N (90,000) descriptions, drawn as
mixtures of real phantom ones, which lie as close together; says how many of 500 planted copies are among the candidates, and how long
the comparison of these takes, by the speed of a part of them."""
import os, sys, tempfile, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from pathlib import Path
import cv2, numpy as np
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
    pairs,v,cut = A._candidates(coarse)
    asked = time.perf_counter()-t
    found = set(map(tuple, pairs[:,:2].tolist())); hit = sum((min(a,b),max(a,b)) in found for a,b in zip(copies,at))
    print(f'{n:,} pictures: all {n*(n-1)//2*4:,} pairs and flips asked in {asked:.1f} s; {len(pairs):,} candidates, that agree by {cut:.3f} and more; '
          f'{hit} of 500 copies among them', flush=True)
    fine = A._shelf(2000); fine[:] = np.random.default_rng(1).integers(-60, 60, fine.shape)
    p = np.c_[rng.integers(0, 2000, (20_000,2)), rng.integers(0, 4, 20_000)]
    speed = {}
    for rows in (8,1):
        t = time.perf_counter(); A._distances(fine, p, rows); speed[rows] = len(p)/(time.perf_counter()-t)
    print(f'comparison: {speed[8]:.0f} pairs a second by every eighth row, {speed[1]:.0f} in full; all these candidates in {len(pairs)/speed[8]:.0f} s')

if __name__=='__main__': main(*map(int, sys.argv[1:2]))
