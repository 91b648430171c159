"""Lesions counted: how fast, and how well do maps find them in real eyes?

python tests/benchmarks/lesions.py speed [--images 10000 --each 200 --resamples 1000]
python tests/benchmarks/lesions.py eyes DATA [--weights FILE --occlude 28 --resamples 1000]
python tests/benchmarks/lesions.py net DATA [SET ... --resamples 1000 --keep FOLDER --against FOLDER --table real.csv]

`speed` takes drawn candidates of four types and tells the seconds of `froc` with its intervals. `eyes` takes a folder with diaretdb1 (regions of
four experts) and heimed (tight exudates) and compares maps by FROC: the picture's own contrast, which knows no net, noise, and, with the weights of a
tf_efficientnet_lite0, Grad-CAM, hue gradient and occlusion of that net with a linear layer for referable retinopathy, fitted on the grades of idrid
(no lesion mask is used). `net` counts what the lesion net of the library finds by type in diaretdb1, heimed and idrid (whose boxes miss lesions, so
that alarms are too many; and the AUC of the sum of its scores for referable retinopathy, without the images that its healthy grounds came from),
beside the picture's own contrast, which knows no type; differences are paired by image or patient.
`--table` puts the figures at 10 false alarms an image into the table of results. `--every 5` asks each fifth image alone, `--keep` writes what was
found, `--against` compares with what an earlier state of the library found and kept, on the same lesions.
A lesion counts where 3 of 4 experts agree (`--level`); where some do, but too few, candidates are alarms, and then are not (`spare`)."""
import argparse, os
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
import cv2, numpy as np, pandas as pd
from fundus_fastai.image.recipe import field_mask, field_of_view
from fundus_fastai.explain.attribution import contrast_map, evidence
from fundus_fastai.explain.heatmap import resize_map
from fundus_fastai.explain.lesions import LesionHits, detections, froc, lesion_auc, match_lesions
from rows import estimate, put

TYPES,SIZE = ('MA','HE','EX','SE'),288


def many(n, each, seed=0):
    "Candidates by lot, some of which hit lesions by lot; two images a patient"
    rng = np.random.default_rng(seed)
    c = pd.DataFrame(dict(image=np.repeat(np.arange(n), each), score=rng.random(n*each)))
    k = rng.poisson(np.where(rng.random((n,1))<.4, [6,5,4,1], 0))
    l = pd.DataFrame(dict(image=np.repeat(np.arange(n), k.sum(1)), type=np.repeat(np.tile(TYPES, n), k.ravel()), area=9))
    hit = np.flatnonzero(rng.random(len(l))<.7)
    links = np.stack([l.image.to_numpy()[hit]*each+rng.integers(0, each, len(hit)), hit], 1)
    c.loc[links[:,0],'score'] += .2
    return LesionHits(c, l, links, np.arange(n)//2, TYPES)


def speed(a):
    h = many(a.images, a.each)
    print(h)
    t,own = perf_counter(),process_time()
    res = froc(h, n_boot=a.resamples)
    print(f'{process_time()-own:.1f} s of processor time, {perf_counter()-t:.1f} s by the clock, for four types with {a.resamples} resamples of patients')
    print(res.astype(str).to_string())


def read(path): return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def gray(path, shape): return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if isinstance(path, str) and path else np.zeros(shape, np.uint8)


def diaretdb1(root):
    df = pd.read_csv(root/'labels.csv').fillna('')
    for r in df.to_dict('records'):
        im = read(root/r['image'])
        m = {k:gray(r[f'mask_{k}'] and str(root/r[f'mask_{k}']), im.shape[:2]) for k in TYPES}
        yield im,{k:v.astype(np.float32)/252 for k,v in m.items()},r['image_id']


def heimed(root):
    df = pd.read_csv(root/'labels.csv').fillna('')
    for r in df.to_dict('records'):
        im = read(root/r['image'])
        yield im,dict(EX=gray(r['mask_EX'] and str(root/r['mask_EX']), im.shape[:2])>0),r['patient_guess']


def window(im, side=SIZE):
    "The square round the field, as a net sees it: the picture [side,side,3], and where it was cut"
    f = field_of_view(im)
    x0,y0,x1,y1 = f.box
    s = max(x1-x0, y1-y0)
    cx,cy = (x0+x1)//2,(y0+y1)//2
    at = cy-s//2,cx-s//2,s
    big = cv2.copyMakeBorder(im, s, s, s, s, cv2.BORDER_CONSTANT)
    return cv2.resize(big[at[0]+s:at[0]+2*s,at[1]+s:at[1]+2*s], (side,side), interpolation=cv2.INTER_AREA),at


def back(m, at, shape):
    "A map [SIZE,SIZE] laid where its picture was cut, [H,W]"
    y,x,s = at
    big = np.zeros((shape[0]+2*s,shape[1]+2*s), np.float32)
    big[y+s:y+2*s,x+s:x+2*s] = resize_map(np.asarray(m, np.float32), (s,s))
    return big[s:s+shape[0],s:s+shape[1]]


def tensor(ims):
    import torch
    return (torch.from_numpy(np.stack(ims)).permute(0,3,1,2).float()/255-.5)/.5


def linear_net(weights, pictures, y, name, side=SIZE):
    "Lite0 with a linear layer that tells `y` [n] of `pictures`, fitted on these alone; its cross-fitted AUC is told"
    import timm, torch
    from safetensors.torch import load_file
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    net = timm.create_model('tf_efficientnet_lite0', num_classes=1)
    kept = {k:v.float() for k,v in load_file(weights).items() if not k.startswith('classifier')}
    missing = net.load_state_dict(kept, strict=False).missing_keys
    assert all(o.startswith('classifier') or 'num_batches' in o for o in missing), missing
    net.eval()
    pictures,feats = iter(pictures),[]
    with torch.no_grad():
        while some := [window(im, side)[0] for im in islice(pictures, 16)]:
            feats.append(net.forward_head(net.forward_features(tensor(some)), pre_logits=True).numpy())
    f = np.concatenate(feats)
    fit = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=1000))
    p = cross_val_predict(fit, f, y, cv=5, method='predict_proba')[:,1]
    print(f'{len(y)} images of {name} ({y.sum()} ill): AUC {roc_auc_score(y, p):.3f}, cross-fitted')
    scale,line = fit.fit(f, y)
    with torch.no_grad():
        net.classifier.weight[0] = torch.from_numpy(line.coef_[0]/scale.scale_).float()
        net.classifier.bias[0] = float(line.intercept_[0]-(line.coef_[0]*scale.mean_/scale.scale_).sum())
    return net


def referable(data, weights, side=SIZE):
    "The net with a linear layer that tells referable retinopathy, fitted on the grades of idrid"
    df = pd.read_csv(data/'idrid/labels.csv')
    df = df[pd.to_numeric(df.dr_grade, errors='coerce').notna()]
    y = (df.dr_grade.astype(int)>=2).to_numpy()
    return linear_net(weights, (read(data/'idrid'/o) for o in df.image), y, 'idrid', side)


def ways(a, net):
    "Name -> function (picture, field) -> map [H,W]"
    def blind(im, field): return contrast_map(im, field)
    def noise(im, field): return cv2.GaussianBlur(np.random.default_rng(int(im[::7].sum())).random(im.shape[:2]), (0,0), 3)
    res = {'noise':noise, 'contrast':blind}
    def of(method, **kwargs):
        def ask(im, field):
            small,at = window(im)
            m = evidence(net, tensor([small]), method, target=0, norm=(.5,.5), **kwargs).map[0,0].numpy()
            return back(m.clip(0), at, im.shape[:2])
        return ask
    if net is None: return res
    return res | {'Grad-CAM':of('grad_cam'), 'hue gradient':of('hue_gradient', smooth=1.5),
                  'occlusion':of('occlusion', window=36, stride=24, progress=False)}


def measured(name, eyes, a, net):
    eyes,tables = list(islice(eyes, 0, None, a.every)),{}
    fields = [field_mask(im) for im,_,_ in eyes]
    truths,who = [t for _,t,_ in eyes],[p for *_,p in eyes]
    print(f'\n== {name}: {len(eyes)} images of {len(set(who))} patients')
    for k,f in ways(a, net).items():
        if k=='occlusion' and len(eyes)>a.occlude: continue
        t = perf_counter()
        dets = [detections(f(im, field), field) for (im,_,_),field in zip(eyes, fields)]
        t = (perf_counter()-t)/len(eyes)
        hits = tables[k] = match_lesions(dets, truths, who, level=a.level)
        for strict in (False,True) if len(hits.types)>1 else (False,):
            res = froc(hits, strict=strict, n_boot=a.resamples).astype(str)
            said = f'{k}, {t:.2f} s an image' + (', strict' if strict else '')
            print(f'\n{said}\n{res.to_string()}', flush=True)
        print(lesion_auc(hits, top=5, n_boot=a.resamples).astype(str).to_string())
    for k in tables:
        if k=='contrast' or 'contrast' not in tables: continue
        d = froc(tables['contrast'], against=tables[k], n_boot=a.resamples).astype(str)
        print(f'\ncontrast minus {k}\n{d.to_string()}')


def idrid(root):
    df,b = pd.read_csv(root/'labels.csv'),pd.read_csv(root/'boxes.csv', dtype=dict(image_id=str))
    for r in df.to_dict('records'):
        im = read(root/r['image'])
        m = {k:np.zeros(im.shape[:2], bool) for k in ('HE','EX')}
        for o in b[(b.image_id==str(r['image_id']).zfill(4))&b.type.isin(m)].itertuples():
            x,y = max(0, round(o.x_centre-o.width/2)),max(0, round(o.y_centre-o.height/2))
            m[o.type][y:y+max(1, round(o.height)),x:x+max(1, round(o.width))] = True
        yield im,m,r['image_id']


def found_by_net(name, data, a):
    "What the lesion net and the picture's own contrast find in one set, its truths, whose they are, and seconds of one core an image"
    from fundus_fastai.anatomy.lesion_net import find_lesions
    dets,blind,truths,who,own = [],[],[],[],0.
    for im,m,p in islice(globals()[name](data/name), 0, None, a.every):
        mine = process_time()
        dets.append(find_lesions(im))
        own += process_time()-mine
        blind.append(detections(contrast_map(im, f), f) if (f := field_mask(im)).any() else dets[-1])
        truths.append(m)
        who.append(p)
    if a.keep:
        a.keep.mkdir(parents=True, exist_ok=True)
        pd.to_pickle(dets, a.keep/f'{name}.pkl')
    return dets,blind,truths,who,own/len(dets)


def referable_rows(data, named, resamples, every=1):
    "AUC of the sum of scores for referable retinopathy in idrid, by half of it, with paired differences to the first of `named`; patients are not known"
    from fundus_fastai.score.compare import paired_bootstrap
    from fundus_fastai.score.estimate import event_estimate
    from fundus_fastai.score.metrics import auc
    df = pd.read_csv(data/'idrid/labels.csv')[::every]
    g,even = pd.to_numeric(df.dr_grade, errors='coerce'),df.image_id.astype(int)%2==0
    def total(o): return sum(o.score[o.type==k].nlargest(60).sum() for k in TYPES) if 'type' in o else o.score.nlargest(60).sum()
    sums = {k:np.array([total(o) for o in dets]) for k,dets in named.items()}
    first = next(iter(sums))
    for half,use in (('odd numbers',~even),('all but the even ones of grade 0',~(even&(g==0)))):
        use = (use&g.notna()).to_numpy()
        y = (g>=2).to_numpy()[use]
        by = dict(patient=np.arange(len(y)), n_boot=resamples)
        print(f'referable retinopathy by the sum of scores, {half}: {y.sum()} of {len(y)} images, intervals by image')
        for k,v in sums.items():
            row = f'  {k}: AUC {event_estimate(auc, y, v[use], **by):.3f}'
            if k!=first: row += f'; {first} minus {k}: {paired_bootstrap(auc, y.astype(int), (sums[first][use], v[use]), **by)}'
            print(row, flush=True)


def tabled(table, name, hits, minutes, resamples, **kwargs):
    "Rows of the table of results: of each type the share hit at 10 false alarms an image, beside that of contrast"
    net,blind = (froc(hits[k], n_boot=resamples, **kwargs) for k in ('lesion net','contrast'))
    for k in net.index[net.lesions>0]:
        put(table, task='lesions, disputes spared' if kwargs else 'lesions', data=name, images=len(hits['lesion net']), patients=len(set(hits['lesion net'].patient)), net='lesion net',
            weights='lesions.safetensors', side=640, recipe=f'{k}, {net.lesions[k]} lesions', metric='share at 10 FP', per='lesion', **estimate(net['10 FP'][k]),
            baselines=f"contrast {blind['10 FP'][k].value:.3f}", minutes=round(minutes, 1), seed=0, command=f'tests/benchmarks/lesions.py net ../shared/data {name}')


def disputes(hits, truths, dets, a):
    "Where the alarms are that `froc` counts: what some experts marked, too few; and the figures when these are spared"
    n = len(hits)
    for k in TYPES:
        s = hits.search(k)
        cut = s.alarms[min(10*n, len(s.alarms)-1)]
        mine = (hits.candidates.type==k).to_numpy()&(hits.candidates.score>cut).to_numpy()
        mine[hits.links[:,0]] = False
        own = np.concatenate([match_lesions([d], [{k:t[k]}], level=a.level).disputed for d,t in zip(dets, truths)])
        print(f'{k}: {mine.sum()} alarms at 10 an image; {(mine&own).sum()} where too few experts say {k}, '
              f'{(mine&hits.disputed&~own).sum()} where some say another type, {(mine&~hits.disputed).sum()} where nobody marked anything')
    print('lesion net, what too few experts marked spared')
    print(froc(hits, n_boot=a.resamples, spare=True).astype(str).to_string(), flush=True)


def by_net(name, data, a):
    "What the lesion net finds in one set, with intervals, beside contrast and what was kept before; AUC for referable retinopathy on idrid"
    dets,blind,truths,who,own = found_by_net(name, data, a)
    print(f'\n== {name}: {len(dets)} images of {len(set(who))} patients; lesion net, {own:.2f} s of one core an image')
    named = {'lesion net':dets, 'contrast':blind}
    if a.against: named['before'] = pd.read_pickle(a.against/f'{name}.pkl')
    hits = {k:match_lesions(o, truths, who, level=a.level) for k,o in named.items()}
    for k,o in hits.items():
        print(k)
        print(froc(o, n_boot=a.resamples).astype(str).to_string(), flush=True)
        if k=='lesion net': continue
        print(f'lesion net minus {k}, paired')
        print(froc(hits['lesion net'], against=o, n_boot=a.resamples).astype(str).to_string(), flush=True)
    if hits['lesion net'].disputed.any(): disputes(hits['lesion net'], truths, dets, a)
    if name=='idrid': referable_rows(data, named, a.resamples, a.every)
    elif a.table:
        tabled(a.table, name, hits, own*len(dets)/60, a.resamples)
        if hits['lesion net'].disputed.any(): tabled(a.table, name, hits, own*len(dets)/60, a.resamples, spare=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=('speed','eyes','net'))
    p.add_argument('data', nargs='?', default=os.environ.get('FUNDUS_TEST_DATA'))
    p.add_argument('sets', nargs='*', default=[])
    p.add_argument('--weights')
    for k in ('keep','against','table'): p.add_argument(f'--{k}', type=Path)
    for k,v in dict(images=10_000, each=200, resamples=1000, level=3, occlude=28, every=1).items(): p.add_argument(f'--{k}', type=int, default=v)
    a = p.parse_args()
    if a.what=='speed': return speed(a)
    data = Path(a.data)
    if a.what=='net':
        for k in a.sets or ('diaretdb1','heimed','idrid'): by_net(k, data, a)
        return
    net = referable(data, a.weights) if a.weights else None
    measured('diaretdb1', diaretdb1(data/'diaretdb1'), a, net)
    measured('heimed', heimed(data/'heimed'), a, net)


if __name__=='__main__': main()
