"""How well are vessels found on real photographs? FUNDUS_TEST_DATA=DIR python tests/benchmarks/vessels.py [NETS] [--table real.csv]

drive: in the field, by the tables that teach_vessels.py has left in the folder NETS, or else by its nets fold0 to fold3, each on the images that
it has not seen; left out without NETS. hrf_av: by the net that comes with the library, which has seen none of it;
its truth is artery, vein or unsure. AUC is of the 8-bit map, F1 at one half, kinds are those of the pixels that are artery or vein
(all, and those found). Means with 95 % intervals by resampling images. Measures on hrf_av: by the net's maps against by the true masks, both with
the library's landmarks. Then seconds a photograph of 768 px on one core.
`--table` puts the figures into the table of results."""
import os, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from argparse import ArgumentParser
from pathlib import Path
import cv2, numpy as np, pandas as pd, torch
from fundus_fastai.anatomy.landmarks import landmarks
from fundus_fastai.anatomy.measures import vessel_features
from fundus_fastai.anatomy.vessels import DIAMETER, Scaled, VesselNet, Vessels, vessels
from fundus_fastai.phantom.fundus import phantom_fundus
from rows import put
from teach_vessels import NAMES as COLUMNS, drive, hrf, judged, left_out, weights

NAMES = 'AUC','F1','kinds','kinds found'

def told(name, rows, table=None):
    "Means and their intervals; rows of `table` if `name` is a set of photographs"
    a,rng = np.array(rows),np.random.default_rng(0)
    b = np.array([a[rng.integers(len(a), size=len(a))].mean(0) for _ in range(2000)])
    lo,hi = np.percentile(b, [2.5,97.5], axis=0)
    print(f'{name}: n {len(a)}; '+'; '.join(f'{k} {m:.4f} ({l:.4f} to {h:.4f})' for k,m,l,h in zip(NAMES, a.mean(0), lo, hi)), flush=True)
    for k,m,l,h in zip(NAMES, a.mean(0), lo, hi) if table else ():
        put(table, task='vessels', data=name.split(',')[0], images=len(a), net='vessel net', weights='vessels.safetensors' if name=='hrf_av' else 'NETS', side=DIAMETER, recipe='shipped' if name=='hrf_av' else 'left out of the teaching',
            metric=k, per='image', figure=round(m, 4), low=round(l, 4), high=round(h, 4), seed=0, command='tests/benchmarks/vessels.py'+' NETS'*(name!='hrf_av'))

def folds(root, nets):
    "What each net says of the images that it has not seen"
    ims,Y = zip(*drive(root))
    for k in range(4):
        file = nets/f'fold{k}.safetensors'
        if not file.exists(): continue
        net = VesselNet()
        net.load_state_dict(weights(file))
        for i in left_out(file.stem): yield judged(vessels(ims[i], net.eval()), Y[i])

def tables(folder, table=None):
    "What a teaching has kept: means by net and data; folds with phantoms against those without, image by image"
    t = pd.concat([pd.read_csv(o) for o in sorted(folder.glob('*.csv'))])
    t['kind'] = t.net.str.rstrip('0123')
    for (kind,data),d in t.groupby(['kind','data']):
        of = 'drive, by folds' if (kind,data)==('fold','drive') else f'{kind}, {data}'
        told(of, d[[*COLUMNS]].to_numpy(), table if of.startswith('drive') else None)
    a,b = (t[t.kind==k].set_index('image')[[*COLUMNS]] for k in ('fold','scratch'))
    both = a.index.intersection(b.index)
    if len(both): told('fold less scratch, drive', (a.loc[both]-b.loc[both]).to_numpy())

MEASURES = 'avr','crae','crve','density',*(f'angle_{s}_{k}' for s in ('temporal','nasal') for k in ('artery','vein'))

def true_maps(im, y):
    "What the net would say of a photograph if it saw what the raters saw"
    w = Scaled(im)
    def scaled(m): return cv2.resize(m.astype(np.float32), w.mask.shape[::-1], interpolation=cv2.INTER_AREA)*w.mask
    a,v = scaled(y==1),scaled(y==2)
    return Vessels(scaled((y>0)&(y<4)), a/np.maximum(a+v, 1e-3), w.k, y.shape, field=float(w.mask.sum()))

def compared(rows):
    "How far measures by maps are from those by masks"
    a,b = (pd.DataFrame(o) for o in zip(*rows))
    for k in MEASURES:
        d = (a[k]-b[k]).dropna()
        at = d.index
        print(f'{k}: n {len(d)}; by the net {a[k][at].mean():.3f}, by true masks {b[k][at].mean():.3f}; error {d.abs().mean():.3f}, median {d.abs().median():.3f}; '
              f'r {np.corrcoef(a[k][at], b[k][at])[0,1]:.2f}', flush=True)

def main():
    p = ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('nets', nargs='?', type=Path)
    p.add_argument('--table')
    o = p.parse_args()
    nets = o.nets
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    root = Path(os.environ['FUNDUS_TEST_DATA'])
    if nets and list(nets.glob('*.csv')): tables(nets, o.table)
    elif nets: told('drive, by folds', list(folds(root, nets)), o.table)
    found = [(im,y,vessels(im)) for im,y in hrf(root)]
    told('hrf_av', [judged(v, y) for _,y,v in found], o.table)
    marks = [landmarks(im) for im,*_ in found]
    compared([(vessel_features(v, m),vessel_features(true_maps(im, y), m)) for (im,y,v),m in zip(found, marks)])
    im,t = phantom_fundus([], 3, 5, size=768).image,[]
    for _ in range(4):
        a = time.process_time()
        vessel_features(vessels(im), landmarks(im))
        t.append(time.process_time()-a)
    print(f'768 px: {min(t[1:]):.2f} s of processor time with all measures')

if __name__=='__main__': main()
