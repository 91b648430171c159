"""Pictures of 512x512 a second on one core: local-average subtraction and its neighbors, and the error of the fast road

python tests/benchmarks/preprocess.py [N]
Rounds over eight drawn eyes, one way after the other, minima of N rounds. FUNDUS_TEST_DATA, where it is set, adds the error on real pictures."""
import os, sys, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from pathlib import Path
import cv2, numpy as np
from fundus_fastai.image.recipe import (circle_crop, field_mask, field_of_view, graham, local_average, recipes,
                                      saturation_quality, vessel_quality)

def drawn(seed, size=512):
    "A noisy disc with soft blobs and lines, its place a little different for each seed"
    rng = np.random.default_rng(seed)
    cx,cy,r = size*(.5+rng.uniform(-.02,.02)),size*(.5+rng.uniform(-.02,.02)),size*rng.uniform(.44,.47)
    y,x = np.mgrid[:size,:size]
    d = np.hypot(x-cx,y-cy)/r
    soft = cv2.resize(rng.normal(0,25,(8,8,3)), (size,size), interpolation=cv2.INTER_CUBIC)
    a = (np.array([190,95,40])*(1-.4*d*d)[...,None]+soft+rng.normal(0,4,soft.shape)).clip(0,255)
    for _ in range(20): cv2.line(a, *rng.integers(0,size,(2,2)).tolist(), (90,30,20), 3, cv2.LINE_AA)
    return (a*(d<1)[...,None]).astype(np.uint8)

def opencv(im): return cv2.addWeighted(im, 4, cv2.GaussianBlur(im, (0,0), 15), -4, 128)

def full(im, f, sigma, share, gain=4):
    "The full-size masked Gaussian in float"
    m = field_mask(f, min(share,.98)).astype(np.float32)
    a,b = (cv2.GaussianBlur(o, (0,0), sigma, borderType=cv2.BORDER_CONSTANT) for o in (im*m[...,None], m))
    out = np.round((gain*(im-a/np.maximum(b,1e-3)[...,None])+128).clip(0,255)).astype(np.uint8)
    out[~field_mask(f, share)] = 128
    return out

def errors(ims, fields):
    "Mean and greatest (over the pictures) mean absolute difference from the full-size masked Gaussian"
    e = {'local_average':[], 'graham':[]}
    for im,f in zip(ims,fields):
        e['local_average'].append(np.abs(local_average(im, field=f).astype(int)-full(im, f, 15, .98)).mean())
        e['graham'].append(np.abs(graham(im, field=f).astype(int)-full(im, f, min(f.r,256)/30, .9)).mean())
    return {k:(np.mean(v),max(v)) for k,v in e.items()}

def real():
    "Some real pictures at 512 pixels, where there are any"
    root = os.environ.get('FUNDUS_TEST_DATA')
    if not root: return []
    files = sorted(Path(root, 'drive/images').glob('*'))[::4]+sorted(Path(root, 'fundus_dme/images').glob('*'))[::40]
    ims = (circle_crop(cv2.cvtColor(cv2.imread(str(o)), cv2.COLOR_BGR2RGB), 512) for o in files)
    return list(ims)

def main(n=20):
    cv2.setNumThreads(1)
    ims = [drawn(s) for s in range(8)]; fields = [field_of_view(o) for o in ims]
    pairs = list(zip(ims,fields))
    work = {'one line of OpenCV, full-size blur, ring':lambda i: opencv(ims[i]),
            'full-size masked blur':lambda i: full(*pairs[i], 15, .98),
            'local_average, field known':lambda i: local_average(ims[i], field=fields[i]),
            'graham, field known':lambda i: graham(ims[i], field=fields[i]),
            'local_average, field found':lambda i: local_average(ims[i]),
            'field_of_view':lambda i: field_of_view(ims[i]),
            'circle_crop to 224':lambda i: circle_crop(ims[i], 224),
            'circle_crop to 224, field known':lambda i: circle_crop(ims[i], 224, fields[i]),
            'crop,local_average to 224':lambda i: recipes['local_average'](ims[i], 224),
            'crop,graham,gray to 224':lambda i: (recipes['graham']+'gray')(ims[i], 224),
            'saturation_quality':lambda i: saturation_quality(ims[i]),
            'vessel_quality':lambda i: vessel_quality(ims[i])}
    best = dict.fromkeys(work, np.inf)
    for k in range(n):
        for name,f in work.items():
            if name.startswith('full') and k>=3: continue
            start = time.perf_counter()
            for i in range(8): f(i)
            best[name] = min(best[name], (time.perf_counter()-start)/8)
    base = best['one line of OpenCV, full-size blur, ring']
    for k,v in best.items(): print(f'{k:<42}{v*1e3:8.3f} ms {1/v:7.0f} a second {base/v:7.1f} x')
    for what,o in (('drawn',ims), ('real',real())):
        for k,(mean,most) in (errors(o, [field_of_view(i) for i in o]).items() if o else ()):
            print(f'{k} on {len(o)} {what} pictures: mean error {mean:.3f} of 255, at most {most:.3f} for a picture')

if __name__ == '__main__': main(*map(int, sys.argv[1:2]))
