"""How well are landmarks found on real photographs? FUNDUS_TEST_DATA=DIR python tests/benchmarks/landmarks.py [N]

For idrid (the half that has not taught the net), heimed and diaretdb1: share of discs within one disc radius of the true middle, median error as a share of the width, and rows
without an answer. For odir5k: share of sides that agree with the file's name among those told, and abstentions. N photographs a set
(0: all). Intervals are 95 %: Wilson's for shares, by resampling for medians. The cup's figure stands in the card:
crops that taught its net say nothing of it (teach_landmarks.py prints it by folds)."""
import os, sys, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from pathlib import Path
import cv2, numpy as np, pandas as pd
from fundus_fastai.anatomy.landmarks import landmarks
from fundus_fastai.score.estimate import patient_bootstrap, wilson_estimate

def share(k, n): return str(wilson_estimate(k/n, n))

def median(e):
    "A median with its interval"
    def middle(y, p, w): return np.median(p) if w is None else np.array([np.median(np.repeat(p, o)) for o in np.asarray(w, int)])
    return f'{patient_bootstrap(middle, e, e, patient=np.arange(len(e))):.4f}'

def discs(root, name):
    "File, true middle, true radius and width of each photograph"
    d = pd.read_csv(root/name/'labels.csv')
    if name!='diaretdb1':
        if name=='idrid': d = d[d.image_id.astype(int)%2==1] # the other half has taught
        for o in d[d.od_x.notna()].itertuples():
            r = (o.od_w+o.od_h)/4 if name=='idrid' else .0625*o.width # heimed gives no size
            yield root/name/o.image,(o.od_x,o.od_y),r,o.width
        return
    for o in d[d.mask_OD.notna()].itertuples():
        m = cv2.imread(str(root/name/o.mask_OD), 0)>=126 # two experts
        if not m.any(): continue
        y,x = np.nonzero(m)
        yield root/name/o.image,((x.min()+x.max())/2,(y.min()+y.max())/2),(np.ptp(x)+np.ptp(y)+2)/4,o.width

def main(n=0):
    cv2.setNumThreads(1)
    root = Path(os.environ['FUNDUS_TEST_DATA'])
    def some(rows): return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:n or None]]
    for name in ('idrid','heimed','diaretdb1'):
        rows,t,e,near = some(list(discs(root, name))),time.perf_counter(),[],0
        for path,c,r,w in rows:
            o = landmarks(path)
            d = np.hypot(o.disc_x-c[0], o.disc_y-c[1])
            near += d<=r
            e.append(d/w)
        e,t = np.array(e),(time.perf_counter()-t)/len(rows)
        none,e = np.isnan(e).sum(),e[~np.isnan(e)]
        print(f'{name}: n {len(rows)}; within a radius {share(near, len(rows))}; median error {median(e)} of the width; '
              f'{none} without an answer; {t:.3f} s a photograph', flush=True)
    d,t,why = pd.read_csv(root/'odir5k/full_df.csv'),time.perf_counter(),{}
    files,right,told = some(sorted(d.filename)),0,0
    for f in files:
        o = landmarks(root/'odir5k/preprocessed_images'/f)
        told += bool(o.eye)
        right += o.eye==('R' if 'right' in f else 'L')
        if not o.eye: why[o.reason] = why.get(o.reason, 0)+1
    print(f'odir5k: n {len(files)}; sides right {share(right, told)} of those told; abstentions {share(len(files)-told, len(files))}; '
          f'{(time.perf_counter()-t)/len(files):.3f} s a photograph; {why}')

if __name__=='__main__': main(*map(int, sys.argv[1:2]))
