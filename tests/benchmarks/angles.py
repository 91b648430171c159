"""How well are the angles between vessels at the disc measured, and do they differ by sex?
FUNDUS_TEST_DATA=DIR python tests/benchmarks/angles.py OUT [MINUTES]

phantoms: 30 drawn eyes of 560 px that taught nothing; the angles that the library finds (its own landmarks, its own maps) against the middle
lines that the painter was given. odir5k: photographs with disc and fovea, by the library's landmarks, patients in an order by lot, for MINUTES (10); of each a window round
the disc at the net's scale, asked once, not four times and whole, which takes a small part of the time. OUT/angles.csv holds a row an eye (kept for the next call);
OUT/odir_angles.csv, which page 75 reads, has effects only: no picture and no patient. Women and men are compared by one value a person, with age
held fixed, over the family of all six angles; `both` is the angle between the widest vessels of either kind."""
import os, sys, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
from pathlib import Path
sys.path.insert(0, str(Path(__file__).parents[1]/'anatomy'))
import cv2, numpy as np, pandas as pd, pytest, torch
from scipy.special import expit
from fundus_fastai.anatomy.biomarkers import feature_effects
from fundus_fastai.anatomy.landmarks import landmarks
from fundus_fastai.anatomy.measures import KINDS, axis_of, trunk_angles, vessel_features
from fundus_fastai.anatomy.vessels import FLIPS, Scaled, ask_vessels, by_lines, contrast, vessel_net, vessels
from fundus_fastai.data.catalog import read_dataset
from fundus_fastai.image.read import read_image
from test_measures import drawn_eye, middle, true_angles

SIDES = 'temporal','nasal'

def window_angles(im, mark):
    "Angles at the disc of artery, vein and both, from a window round it"
    w,none = Scaled(im),{f'{s}_{k}':np.nan for s in SIDES for k in (*KINDS,'both')}
    at,r = (np.array([mark.disc_x,mark.disc_y])+.5)*w.k-.5,(mark.disc_w+mark.disc_h)/4*w.k
    lo = np.maximum(np.round(at-3.2*r-24).astype(int), 0)
    hi = np.minimum(np.round(at+3.2*r+24).astype(int), w.mask.shape[::-1])
    part = np.s_[lo[1]:hi[1],lo[0]:hi[0]]
    if not w.mask[part].any(): return none
    v,a = ask_vessels(vessel_net(), contrast(w.image, w.mask)[part], FLIPS[:1])
    p = expit(v)*w.near[part]
    artery = by_lines(a, p)>0
    maps = dict(artery=p*artery, vein=p*~artery, both=p)
    return none|{f'{s}_{k}':x for k,m in maps.items() for s,x in trunk_angles(m, at-lo, r, axis=axis_of(mark)).items()}

def phantoms(n=30):
    "Errors of the angles, by way of measuring"
    rows = []
    for i in range(1, n+1):
        e,trunks = drawn_eye(pytest.MonkeyPatch, [], 77, i, eye='RL'[i%2], size=560)
        mark,(at,f) = landmarks(e.image),(middle(o) for o in (e.disc, e.fovea))
        axis,r = np.rad2deg(np.arctan2(*(f-at)[::-1])),(e.disc[2]-e.disc[0]+e.disc[3]-e.disc[1])/4
        whole,part = vessel_features(vessels(e.image), mark),window_angles(e.image, mark) if np.isfinite(mark.disc_x) else {}
        for k in KINDS:
            t,m = true_angles(trunks[k], at, r, axis),trunk_angles(e.vessels[k], at, r, axis=axis)
            for s in SIDES:
                got = dict(true_mask=m[s], predicted=whole[f'angle_{s}_{k}'], window=part.get(f'{s}_{k}', np.nan))
                rows += [(s, k, way, v-t[s]) for way,v in got.items() if np.isfinite(t[s])]
    t = pd.DataFrame(rows, columns=['side','kind','way','error'])
    def told(e): return pd.Series(dict(n=len(e), found=e.notna().sum(), mae=e.abs().mean(), median=e.abs().median(), bias=e.mean()))
    print(t.groupby('way').error.apply(told).unstack().round(2).to_string())
    print(t.groupby(['way','side','kind']).error.apply(told).unstack().round(2).to_string(), flush=True)

def measured(root, out, minutes):
    "Angles of photographs of odir5k, a row an eye"
    df,t0 = read_dataset('odir5k', root),time.time()
    who = df.patient.drop_duplicates().sample(frac=1, random_state=0)
    df = df.assign(order=df.patient.map(dict(zip(who, range(len(who)))))).sort_values('order', kind='stable')
    rows = pd.read_csv(out/'angles.csv', dtype={'patient':str}).to_dict('records') if (out/'angles.csv').exists() else []
    done = {o['path'] for o in rows}
    for o in df[~df.path.isin(done)].itertuples():
        if time.time()-t0>60*minutes: break
        m = landmarks(im := read_image(o.path))
        got = window_angles(im, m) if np.isfinite(m.fovea_x) else {}
        rows.append(dict(path=o.path, patient=o.patient, eye=m.eye, sex=o.sex, age=o.age, reason=m.reason, **got))
    t = pd.DataFrame(rows)
    t.to_csv(out/'angles.csv', index=False, float_format='%.3f')
    return t

def main(out, minutes=10.):
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    phantoms()
    t0,t = time.time(),measured(Path(os.environ['FUNDUS_TEST_DATA'])/'odir5k', out, minutes)
    angles = [f'{s}_{k}' for s in ('nasal','temporal') for k in (*KINDS,'both')]
    print(f'{len(t)} photographs of {t.patient.nunique()} people, {time.time()-t0:.0f} s; with a nasal angle: {t.nasal_both.notna().sum()}')
    e = feature_effects(t, 'sex', angles, adjust=['age'])
    e.to_csv(out/'odir_angles.csv', index=False, float_format='%.4g')
    print(e.round(4).T.to_string())

if __name__=='__main__': main(sys.argv[1], *map(float, sys.argv[2:3]))
