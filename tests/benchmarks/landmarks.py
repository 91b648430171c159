"""How well are landmarks found on real photographs? FUNDUS_TEST_DATA=DIR python tests/benchmarks/landmarks.py [N] [NETS] [--csv FILE] [--table real.csv]

Of what the shipped nets have never seen: diaretdb1 (discs), odir5k's patients with an odd number and fundus_dme (sides). With a folder NETS
from teach_landmarks.py also idrid, heimed and the crops of drishti_gs_crops, each image read by the nets of the fold that left it out.
Told are: the share of discs within one disc radius of the true middle, a missing answer counting as a miss; the median error as a share
of the photograph's width; the share of sides that agree with the file's name among those told, and abstentions; the mean error of the
cup-to-disc ratio. A check of the fovea, which nobody has marked: how far it is from the middle of the largest circle without a vessel
(manual vessels of drive and hrf_av, 1.6 to 3.6 disc diameters temporal of the disc), beside a fixed place, 2.5 diameters and 6 degrees
from the disc. N photographs a set (0: all). `--table` puts the figures into the table of results. Intervals are 95 %: Wilson's for shares, by resampling (sides: patients) for the rest."""
import os, sys, time
for k in ('OMP_NUM_THREADS','OPENBLAS_NUM_THREADS','MKL_NUM_THREADS'): os.environ[k] = '1'
import argparse
from pathlib import Path
import cv2, numpy as np, pandas as pd, torch
from safetensors.torch import load_file
from fundus_fastai.anatomy import landmarks as L
from fundus_fastai.image.read import read_image
from fundus_fastai.score.estimate import patient_bootstrap, wilson_estimate
from rows import estimate, put
from teach_vessels import drive, hrf

SHIPPED,FOLDS = L.landmark_net,('idrid','heimed','drishti_gs_crops')

def share(k, n): return wilson_estimate(k/n, n)

def resampled(what, e, who=None):
    "`what` of numbers with its interval, over images or over `who`"
    e = np.asarray(e, float)
    def f(y, p, w): return what(p) if w is None else np.array([what(np.repeat(p, o)) for o in np.asarray(w, int)])
    return patient_bootstrap(f, e, e, patient=np.arange(len(e)) if who is None else who)

def tell(a, d, net, **figures):
    "Print figures of a set, and put them into the table if there is one"
    name,n = d.set.iloc[0],len(d)
    print(f'{name}: n {n}; '+'; '.join(f"{k.replace('_', ' ')} {e:.4f}" for k,e in figures.items()), flush=True)
    for k,e in figures.items() if a.table else ():
        put(a.table, task='landmarks', data=name, images=n, patients=d.patient.nunique() if 'patient' in d else '', net=net, weights=f'{net}.safetensors', side=192 if net=='landmarks' else 96,
            recipe='left out, three folds' if name in FOLDS else 'shipped', metric=k.replace('_', ' '), per='image', **estimate(e), seed=0,
            command='tests/benchmarks/landmarks.py'+' 0 NETS'*(name in FOLDS))

def use(nets, fold):
    "Let the library read with the nets of a fold, `None`: as it ships them"
    if fold is None:
        L.landmark_net = SHIPPED
        return
    def loaded(name):
        w = {k:v.float() if v.is_floating_point() else v for k,v in load_file(Path(nets)/f'{name}_{fold}.safetensors').items()}
        net = L.LandmarkNet(len(w['out.bias']), [len(w[k]) for k in ('d1.0.weight','d2.0.0.weight','d3.0.0.weight')])
        net.load_state_dict(w)
        return net.eval()
    both = {k:loaded(k) for k in ('landmarks','cup')}
    L.landmark_net = both.__getitem__

def discs(root, name):
    "File, true middle, true radius, width and fold (`None`: has taught no net) of each photograph"
    d = pd.read_csv(root/name/'labels.csv')
    if name!='diaretdb1':
        d = d[d.od_x.notna()]
        folds = np.arange(len(d))%3 if name=='idrid' else d.patient_guess.str[1:].astype(int)%3 # as teach_landmarks.py deals them
        for o,fold in zip(d.itertuples(), folds):
            r = (o.od_w+o.od_h)/4 if name=='idrid' else .0625*o.width # heimed gives no size
            yield root/name/o.image,(o.od_x,o.od_y),r,o.width,fold
        return
    for o in d[d.mask_OD.notna()].itertuples():
        m = cv2.imread(str(root/name/o.mask_OD), 0)>=126 # two experts
        if not m.any(): continue
        y,x = np.nonzero(m)
        yield root/name/o.image,((x.min()+x.max())/2,(y.min()+y.max())/2),(np.ptp(x)+np.ptp(y)+2)/4,o.width,None

def sides(root, name):
    "File, patient and eye of each photograph that has taught no net"
    if name=='odir5k':
        d = pd.read_csv(root/'odir5k/full_df.csv').sort_values('filename')
        for o in d[d.ID%2==1].itertuples(): yield root/'odir5k/preprocessed_images'/o.filename,o.ID,'RL'['left' in o.filename]
    else:
        for o in pd.read_csv(root/name/'labels.csv').itertuples(): yield root/name/'images'/o.file,o.patient_id,dict(OD='R', OI='L')[o.eye]

def of_discs(name, rows, nets):
    for fold in sorted({o[-1] for o in rows}, key=str):
        use(nets, fold)
        for path,c,r,w,_ in (o for o in rows if o[-1]==fold):
            o = L.landmarks(path)
            d = np.hypot(o.disc_x-c[0], o.disc_y-c[1])
            yield dict(set=name, image=path.name, error=d/w, near=bool(d<=r), reason=o.reason)

def of_sides(name, rows):
    use(None, None)
    for path,who,eye in rows:
        o = L.landmarks(path)
        yield dict(set=name, image=path.name, patient=who, true=eye, eye=o.eye, reason=o.reason)

def of_crops(root, nets):
    d = pd.read_csv(root/'drishti_gs_crops/labels.csv')
    for i,o in enumerate(d.itertuples()):
        use(nets, i%3)
        said = L.cup_disc_ratio(read_image(root/'drishti_gs_crops'/o.image))
        yield dict(set='drishti_gs_crops', image=o.image, said=said, true=o.vcdr, error=abs(said-o.vcdr))

def without_vessels(vessels, field, o):
    "Middle of the largest circle without a vessel where a macula may lie; the fixed place; diameter of the disc"
    at,d,side = np.array([o.disc_x,o.disc_y]),(o.disc_w+o.disc_h)/2,-1 if o.eye=='R' else 1
    away = cv2.distanceTransform((~vessels&field).astype(np.uint8), cv2.DIST_L2, 5)
    y,x = np.indices(vessels.shape)
    r,a = np.hypot(x-at[0], y-at[1])/d,np.degrees(np.arctan2(y-at[1], side*(x-at[0])))
    k = np.where((r>1.6)&(r<3.6)&(a>-25)&(a<35), away, -1).argmax()
    return np.array([k%vessels.shape[1],k//vessels.shape[1]]),at+2.5*d*np.array([side*np.cos(np.pi/30),np.sin(np.pi/30)]),d

def of_foveas(name, rows):
    for im,y in rows:
        o = L.landmarks(im)
        if not np.isfinite(o.fovea_x):
            yield dict(set=name, reason=o.reason)
            continue
        middle,fixed,d = without_vessels((y>0)&(y<255), y<255, o)
        found = np.array([o.fovea_x,o.fovea_y])
        yield dict(set=name, error=np.hypot(*(found-middle))/d, fixed=np.hypot(*(fixed-middle))/d,
                   distance=np.hypot(*(found-[o.disc_x,o.disc_y]))/d)

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('n', nargs='?', type=int, default=0)
    p.add_argument('nets', nargs='?')
    p.add_argument('--csv', help='a row an image')
    p.add_argument('--table', help='the table of results')
    a = p.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    root,tables = Path(os.environ['FUNDUS_TEST_DATA']),[]
    def some(rows): return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:a.n or None]]
    for name in ('diaretdb1',*(('idrid','heimed') if a.nets else ())):
        rows,t = some(list(discs(root, name))),time.perf_counter()
        d = pd.DataFrame(of_discs(name, rows, a.nets))
        t,e = (time.perf_counter()-t)/len(d),d.error.dropna()
        tell(a, d, 'landmarks', disc_within_a_radius=share(d.near.sum(), len(d)), median_error_by_width=resampled(np.median, e))
        print(f'  {len(d)-len(e)} without an answer; {t:.3f} s a photograph', flush=True)
        tables.append(d)
    for name in ('odir5k','fundus_dme'):
        rows,t = some(list(sides(root, name))),time.perf_counter()
        d = pd.DataFrame(of_sides(name, rows))
        t,told = (time.perf_counter()-t)/len(d),d[d.eye!='']
        tell(a, d, 'landmarks', side_right_where_told=resampled(np.mean, told.eye==told.true, told.patient), sides_untold=resampled(np.mean, d.eye=='', d.patient))
        print(f'  {d.patient.nunique()} patients; {t:.3f} s a photograph; {d[d.eye==""].reason.value_counts().to_dict()}', flush=True)
        tables.append(d)
    use(None, None)
    for name,rows in (('drive',drive(root)),('hrf_av',hrf(root))):
        d = pd.DataFrame(of_foveas(name, rows))
        e = d.dropna(subset='error')
        print(f'{name}: n {len(d)}, with a fovea {len(e)}; from the place without vessels, in disc diameters: median '
              f'{resampled(np.median, e.error)}, a fixed place {resampled(np.median, e.fixed)}; farther than .5: {(e.error>.5).sum()} and '
              f'{(e.fixed>.5).sum()}; disc to fovea {e.distance.mean():.2f} (SD {e.distance.std():.2f}) disc diameters', flush=True)
        tables.append(d)
    if a.nets:
        tables.append(d := pd.DataFrame(of_crops(root, a.nets)))
        tell(a, d, 'cup', mean_error_of_cup_over_disc=resampled(np.mean, d.error))
    if a.csv: pd.concat(tables).to_csv(a.csv, index=False)

if __name__=='__main__': main()
