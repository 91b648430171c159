"""Maps of nets that image labels alone have taught, on eyes whose lesions are known: which window is the better one, and which map?

python tests/benchmarks/maps.py windows DATA WEIGHTS [SET ... --keep FOLDER --every 1 --table real.csv]
python tests/benchmarks/maps.py teach DATA WEIGHTS [NET ... --keep FOLDER]
python tests/benchmarks/maps.py types DATA WEIGHTS [SET ... --keep FOLDER --table real.csv]
python tests/benchmarks/maps.py seeds DATA WEIGHTS [--keep FOLDER --table real.csv]

`windows` holds the default of occlusion (a window of a seventh of the side, filled with the mean) against lesson 07's (.08 of the
side, filled with a blurred copy), and `--between` against the two between them: the small window with the mean, the large one with the blur. Windows
overlap by half; in photographs only the field is covered. Sets: diaretdb1 (28; regions where 3 of 4 experts agree), heimed (exudates outlined to the
pixel; each third image of the table, `--every 3`, since time was short), eyes (phantoms with diabetic retinopathy) and scans (phantom OCT with a
lesion). Nets: for real eyes EfficientNet-Lite0 with a linear layer for referable retinopathy, fitted on the grades of idrid, other patients than
those asked; for phantom eyes the same, fitted on 200 other phantoms; for scans lesson 07's own, trained on 160 phantom patients; the scans asked are
of 40 others.
Each map is asked for the score of the disease. Measures: CPM of all lesions together (FROC, 1/8 to 8 false alarms an image), share of the evidence
inside, precision of the pixels (not in diaretdb1, whose regions are drawn round groups) and pointing; differences are paired, intervals by patient.
The rule, written down before the first figure: the lesson's window becomes the default if in each of the four sets its difference to the default is
above 0 with its whole interval in CPM, share or precision, and below 0 with its whole interval in none of the four measures. Asked so far: eyes (won)
and diaretdb1 (not shown), which decided.
`teach` trains Lite0 at 224 pixels on the referable retinopathy of idrid, image labels alone: three of five folds of patients teach, one chooses the
epoch, one tells the AUC; an epoch of the head and one of all layers (`base`), and from there one more without (`plain`) and with SparseMaps
(`sparse`; nu .003, each third batch, from the first on); with the head that shows its places one and two (`evidence`; `attention` when asked). 
`seeds` does this five times and tells means, and the difference of `sparse` and its twin `plain`, which learned as long.
`types` counts by type what maps of these nets and of the linear one find in eyes: sensitivity at 10 false alarms an image (generous: a candidate in a
lesion of another type is none). Grad-CAM and hue gradient are of `plain`, where it is missing of `base`; occlusion is of the linear net, taken over
from `windows`, which runs before.
`--keep` keeps tables (candidates and measures, no picture) and nets, so that a stopped run goes on; `--every 3` asks each third image."""
import argparse, tempfile, warnings
from itertools import islice
from pathlib import Path
from time import process_time
import cv2, numpy as np, pandas as pd, torch
from fundus_fastai.explain.faithful import difference_to, faithful_table, overlap
from fundus_fastai.explain.lesions import consensus, detections, froc, match_lesions
from fundus_fastai.explain.occlusion import occlusion
from fundus_fastai.image.recipe import field_mask
from fundus_fastai.phantom.fundus import LESION_CODES, phantom_fundus
import lesions
from lesions import TYPES, back, linear_net, referable, tensor
from rows import estimate, put

SIDE,LARGE = 224,dict(seventh=1/7, small=.08) # of a picture, and shares of it
WAYS = {'seventh, mean':('seventh','mean'), 'small, blur':('small','blur'), 'small, mean':('small','mean'), 'seventh, blur':('seventh','blur')}
OLD,NEW = list(WAYS)[:2]
MEASURES = ['share','precision','pointing']


def drawn_eye(i, ill, seed=21):
    "A phantom, healthy or with retinopathy of grade 2 to 4"
    return phantom_fundus(('diabetic retinopathy',) if ill else ('normal',), seed, i, grade=2+i%3 if ill else 0)


def eyes(root=None):
    "10 ill phantoms: picture, masks by type, patient"
    for i in range(1000, 1010):
        o = drawn_eye(i, True)
        yield o.image,{k:o.masks[v] for k,v in LESION_CODES.items() if v in o.masks},i


def eye_net(weights):
    "A linear layer that tells 100 ill phantoms from 100 healthy ones"
    return linear_net(weights, (drawn_eye(i, i%2).image for i in range(1, 201)), np.arange(1, 201)%2, 'phantoms', side=SIDE)


def scan_net(tmp):
    "Lesson 07's net, and scans with a lesion of 40 other patients that it reads: pictures as it sees them [N,C,H,W], masks, patients, classes"
    from fundus_fastai.all import TrainOptions, make_phantom, train_run, load_model, eye_view, open_data, resize_map, truth_mask
    root = make_phantom('kermany2018', tmp/'scans', patients=160)
    train_run('oct', root, TrainOptions('resnet10t', weights='none', bs=16, epochs=12, size=128), maps=0, out=tmp/'net')
    learn,others = load_model(tmp/'net'),make_phantom('kermany2018', tmp/'others', patients=40, seed=7)
    df = open_data(str(others))
    df = df[df.label!='NORMAL'].groupby(['patient','label']).head(1).reset_index(drop=True)
    masks = [truth_mask(learn, str(p)) for p in df.path]
    df,masks = df[[m is not None for m in masks]],[m for m in masks if m is not None]
    x = torch.cat([b[0] for b in learn.dls.test_dl(df[['path']])])
    return learn,x,[resize_map(m, (128,128)) for m in masks],df.patient.to_numpy(),df.label.to_numpy()


def placed(im, field, side=SIDE):
    "Picture and field as a net sees them, and where they were cut"
    (small,at),f = lesions.window(im, side),np.repeat(field[...,None].astype(np.uint8)*255, 3, 2)
    y,x,s = at
    big = cv2.copyMakeBorder(f[...,0], s, s, s, s, cv2.BORDER_CONSTANT)[y+s:y+2*s,x+s:x+2*s]
    return small,torch.from_numpy(cv2.resize(big, (side,side), interpolation=cv2.INTER_AREA)>127)[None],at


def asked(net, x, way, target, inside=None):
    "The map of one image for one class by a window, [H,W], and seconds of one core"
    size,fill = WAYS[way]
    w,t = max(4, round(LARGE[size]*x.shape[-1])),process_time()
    m = occlusion(net, x, w, stride=max(2, w//2), fill=fill, inside=inside, target=target, progress=False).map[0,0].numpy()
    return m,process_time()-t


def judged(m, truth, field=None, reach=0):
    "Candidates of a map [H,W], and its measures"
    return detections(m.clip(0), field),overlap(m, truth, reach, within=field)


def ask_eyes(net, pictures, ways):
    "Per image: way -> candidates, measures, seconds; truth of all lesions together; patient"
    for im,masks,who in pictures:
        field = field_mask(im)
        small,inside,at = placed(im, field)
        truth = np.any([consensus(m, 3) for k,m in masks.items() if k in TYPES], 0)
        one = {}
        for way in ways:
            m,t = asked(net, tensor([small]), way, 0, inside)
            one[way] = *judged(back(m, at, im.shape[:2]), truth, field, max(2, round(.005*im.shape[1]))),t
        yield one,truth,who


def ask_scans(learn, x, masks, who, labels, ways):
    "The same of scans"
    for i,truth in enumerate(masks):
        one = {}
        for way in ways:
            m,t = asked(learn, x[i:i+1], way, str(labels[i]))
            one[way] = *judged(m, truth),t
        yield one,truth,who[i]


def asked_all(name, a):
    "What was found in all images of a set, from `--keep` where it was found before"
    kept,res,ways = a.keep/f'windows-{name}.pkl',[],list(WAYS)[:4 if a.between else 2]
    if kept.exists(): res = pd.read_pickle(kept)
    if name=='scans': each = ask_scans(*scan_net(a.keep), ways) if not res else iter(())
    else:
        pictures = eyes() if name=='eyes' else getattr(lesions, name)(a.data/name)
        left = islice(pictures, len(res)*a.every, None, a.every)
        first = next(left, None)
        if first is None: return res
        net = eye_net(a.weights) if name=='eyes' else referable(a.data, a.weights, SIDE)
        each = ask_eyes(net, (o for s in ([first], left) for o in s), ways)
    for o in each:
        res.append(o)
        pd.to_pickle(res, kept)
    return res


def told(name, res, a):
    "Table of a set, with paired differences to the default; rows of the table of results"
    ways,less,who = list(res[0][0]),{},np.array([str(o[2]) for o in res])
    hits = {k:match_lesions([o[0][k][0] for o in res], [dict(lesion=o[1]) for o in res], who) for k in ways}
    df = pd.DataFrame([dict(method=k, image=i, **o[0][k][1]) for k in ways for i,o in enumerate(res)])
    table = faithful_table(df, who, measures=MEASURES)
    print(f'\n== {name}: {len(res)} images of {len(set(who))} patients, {len(hits[OLD].lesions)} lesions')
    for k in ways:
        f,t = froc(hits[k], n_boot=a.resamples).loc['lesion'],np.mean([o[0][k][2] for o in res])
        said = {'10 FP':f['10 FP'], 'CPM':f.CPM, **{m:table[m][k] for m in MEASURES}}
        print(f'{k}, {t:.1f} s: '+'; '.join(f'{m} {v}' for m,v in said.items()))
        if k!=OLD:
            d = froc(hits[k], against=hits[OLD], n_boot=a.resamples).loc['lesion']
            less = {'10 FP':d['10 FP'], 'CPM':d.CPM} | {m:difference_to(df, k, OLD, patient=who, measure=m) for m in MEASURES}
            print(f'    minus {OLD}: '+'; '.join(f'{m} {v}' for m,v in less.items()), flush=True)
        if not a.table: continue
        for recipe,each in ((k,said), (f'{k} minus {OLD}',less if k!=OLD else {})):
            for metric in ('CPM',*MEASURES):
                if metric not in each or (metric=='precision' and name=='diaretdb1'): continue
                window_row(a, name, recipe, metric, each[metric], res, round(t*len(res)/60, 3))


def window_row(a, name, recipe, metric, e, res, minutes):
    "A row of the table of results"
    scans,set_ = name=='scans',f'phantom {name}' if name in ('eyes','scans') else name
    put(a.table, task='windows', data=set_, images=len(res), patients=len({o[2] for o in res}), net='resnet10t' if scans else 'tf_efficientnet_lite0',
        weights='none' if scans else Path(a.weights).name, side=128 if scans else SIDE, recipe=recipe, metric=metric,
        per='lesion' if metric=='CPM' else 'image', **estimate(e), minutes=minutes, seed=0,
        command=f'tests/benchmarks/maps.py windows ../shared/data WEIGHTS {name}'+f' --every {a.every}'*(a.every>1))


def dealt(a):
    "Batches of idrid's pictures with `yes` for referable retinopathy, and the fold that is held back"
    from fundus_fastai.all import eye_dls
    from real import folds, frame, split
    df = frame(a.data, 'referable', 'idrid', 'dr_grade')
    df = split(df, folds(df), 0)
    return eye_dls(df, 16, 0, image='fundus', size=SIDE, recipe='crop', device='cpu'),df[df.split=='test'].reset_index(drop=True)


def learner(dls, name, a):
    "A net as it begins, or as `--keep` has it"
    from fundus_fastai.all import eye_learner
    torch.manual_seed(a.seed)
    head = {k:dict(head=k) for k in ('evidence','attention')}.get(name, {})
    learn = eye_learner(dls, 'tf_efficientnet_lite0', a.weights, **head)
    if (kept := a.keep/f'{name}.pth').exists(): learn.model.load_state_dict(torch.load(kept))
    return learn


def teach(a):
    "Train the nets that `--keep` lacks, and tell their AUC"
    from fundus_fastai.all import SparseMaps, auc, one_cycle_plan
    from fundus_fastai.score.estimate import event_estimate
    dls,test = dealt(a)
    for name in a.sets or ('base','sparse','evidence','plain'):
        if (kept := a.keep/f'{name}.pth').exists(): continue
        more,t = name in ('plain','sparse'),process_time()
        learn = learner(dls, 'base' if more else name, a)
        plan = one_cycle_plan(1, 0, 5e-4) if more else one_cycle_plan(1 if name=='base' else 2, 1)
        with learn.no_bar(): learn.fit_eye(plan, a.seed, cbs=[SparseMaps(.003, start=0, rise=.5, every=3)] if name=='sparse' else None)
        torch.save(learn.model.state_dict(), kept)
        p = learn.predict_frame(test)
        e = event_estimate(auc, (test.label=='yes').to_numpy(), p.p_yes.to_numpy(), patient=test.patient.to_numpy())
        print(f'{name}: AUC {e} on {len(test)} images, {process_time()-t:.0f} s of one core', flush=True)


def of_types(name, a):
    "What each map finds in a set, by type: rows of the table"
    from fundus_fastai.explain.attribution import contrast_map, evidence
    dls,_ = dealt(a)
    nets = {k:learner(dls, k, a) for k in ('base','plain','sparse','evidence','attention') if (a.keep/f'{k}.pth').exists()}
    tuned = nets.get('plain', nets['base'])
    def of(net, method, target='yes', **how):
        return lambda small: evidence(net, tensor([small]), method, target=target, **how).map[0,0].numpy().clip(0)
    hue = dict(smooth=1.5)
    ways = {'Grad-CAM':of(tuned, 'grad_cam'), 'hue gradient':of(tuned, 'hue_gradient', **hue),
            'trained maps':of(nets['sparse'], 'hue_gradient', **hue),
            **{f'{k} head':of(nets[k], 'evidence') for k in ('evidence','attention') if k in nets}}
    dets,took,truths,who = {k:[] for k in ['contrast',*ways]},dict.fromkeys(['contrast',*ways], 0.),[],[]
    for im,masks,p in islice(getattr(lesions, name)(a.data/name), 0, None, a.every):
        field = field_mask(im)
        small,_,at = placed(im, field)
        for k in dets:
            t = process_time()
            m = contrast_map(im, field) if k=='contrast' else back(ways[k](small), at, im.shape[:2])
            dets[k].append(detections(m, field))
            took[k] += process_time()-t
        truths.append({k:consensus(m, 3) for k,m in masks.items() if k in TYPES})
        who.append(str(p))
    if (kept := a.keep/f'windows-{name}.pkl').exists():
        res = pd.read_pickle(kept)
        for k in res[0][0]:
            dets[f'occlusion, {k}'],took[f'occlusion, {k}'] = [o[0][k][0] for o in res],sum(o[0][k][2] for o in res)
    print(f'\n== {name}: {len(who)} images of {len(set(who))} patients')
    hits,shares = {k:match_lesions(o, truths, who) for k,o in dets.items()},{}
    for k,o in hits.items():
        f,t = froc(o, n_boot=a.resamples),took[k]/len(who)
        print(f"{k}, {t:.1f} s: "+'; '.join(f"{i} {r['10 FP']}" for i,r in f.iterrows()), flush=True)
        if k!='contrast':
            d = froc(o, against=hits['contrast'], n_boot=a.resamples)
            print('    minus contrast: '+'; '.join(f"{i} {r['10 FP']}" for i,r in d.iterrows()), flush=True)
        shares |= {(k,i,r.lesions):r['10 FP'].value for i,r in f.iterrows()}
        for i,r in f.iterrows():
            if not a.table: break
            put(a.table, task='maps', data=name, images=len(who), patients=len(set(who)), net='tf_efficientnet_lite0' if k!='contrast' else 'none',
                weights=Path(a.weights).name if k!='contrast' else '', side=SIDE, recipe=f'{i}, {r.lesions} lesions: {k}', metric='share at 10 FP',
                per='lesion', **estimate(r['10 FP']), minutes=round(took[k]/60, 3), seed=a.seed, command=f'tests/benchmarks/maps.py types ../shared/data WEIGHTS {name}')
    return shares


def of_seeds(a):
    "Five trainings of each net: the mean of what each map finds in diaretdb1, the least and the most; and trained maps less those of its twin"
    each,names = [],('base','sparse','evidence','plain','attention')
    for s in range(5):
        b = argparse.Namespace(**vars(a)|dict(seed=s, keep=a.keep/f'seed{s}', sets=names, table=None, resamples=20))
        b.keep.mkdir(exist_ok=True)
        teach(b)
        each.append(of_types('diaretdb1', b))
    t = pd.DataFrame(each)
    for i,n in {k[1:] for k in t}: t['trained maps less hue gradient',i,n] = t['trained maps',i,n]-t['hue gradient',i,n]
    for k in sorted(t):
        if k[0]=='contrast': continue
        v = t[[k]].to_numpy()[:,0]
        print(*k, f'{v.mean():.3f} ({v.min():.3f} to {v.max():.3f})', flush=True)
        if a.table:
            put(a.table, task='maps, five trainings', data='diaretdb1', images=28, patients=28, net='tf_efficientnet_lite0', weights=Path(a.weights).name, side=SIDE,
                recipe=f'{k[1]}, {k[2]} lesions: {k[0]}', metric='share at 10 FP, mean; least to most', per='lesion', figure=round(v.mean(), 4), low=round(v.min(), 4),
                high=round(v.max(), 4), seed='0 1 2 3 4', command='tests/benchmarks/maps.py seeds ../shared/data WEIGHTS')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=('windows','teach','types','seeds'))
    p.add_argument('data', type=Path)
    p.add_argument('weights')
    p.add_argument('sets', nargs='*', default=[])
    p.add_argument('--keep', type=Path, default=Path(tempfile.gettempdir())/'fundus-maps')
    p.add_argument('--table', type=Path)
    p.add_argument('--between', action='store_true')
    for k,v in dict(resamples=1000, every=1, seed=42).items(): p.add_argument(f'--{k}', type=int, default=v)
    a = p.parse_args()
    a.keep.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    if a.what=='teach': return teach(a)
    if a.what=='seeds': return of_seeds(a)
    if a.what=='types':
        for name in a.sets or ('diaretdb1',): of_types(name, a)
        return
    for name in a.sets or ('diaretdb1','heimed','eyes','scans'): told(name, asked_all(name, a), a)


if __name__=='__main__': main()
