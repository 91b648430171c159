"""Every figure on real eyes, made again into one table: python tests/benchmarks/real.py DATA WEIGHTS [--only WORDS] [--keep DIR] [--out CSV]

DATA holds the folders oct_dme, fundus_dme, idrid (labels.csv, images/) and odir5k (as the Kaggle set); WEIGHTS one file of weights for each
net, ARCH-*.{npz,safetensors}. A row a figure is appended to CSV (real.csv beside this file) when it is made: task, data, images, patients,
net, weights, side of the input, recipe, metric, per (image or patient, whose images are averaged), figure with a 95 % interval by patients,
what border, file and contrast alone reach, what confounds the set, minutes, seed, command. Rows that stand there are not made again: it
goes on where it was stopped. No picture is kept; features (numbers of the nets' blocks) and answers go to --keep. Patients are dealt to
five folds, each held back in turn:
  readout    the library's linear readout of the frozen net: the next fold chooses the penalty, the last fit has all but the fold held back
  readout of places: the same, of what is seen in 4 x 4 places of the last block, too (`--readout places`)
  readout, retina: of scans that were leveled and laid flat (`--recipe retina`), at the net's own side and at half as much again
  readout, mirrored: of what is seen in a picture and in its mirror image, on the average: does a second look help?
  readout, retina, mirrored: both
  together   the mean of the readouts of several nets, nothing is chosen; `together, retina too`: of all nets, each asked of plain and of flat scans;
             `together, retina and mirror too`: the same, each with its second look
  kernel     ridge regression on what the readout sees of the blocks and on the last block's means in 4 x 4 places, of one or more nets,
             averaged over the images of a patient; penalty and kernel (linear, Gaussian) are chosen within the other folds
  support vectors: support vector regression (a number) or classification on a Gaussian kernel of the same: the mean of the five ways (width,
             penalty, with places or without) that are best within the other folds
  auto, tune the library's tuning, on pictures of --side pixels, the first --folds folds
Left eyes are mirrored, so that all lie alike. Words of --only pick rows: the row's task, data, net and recipe are to hold each of them; | between alternatives."""
import argparse, tempfile, time, warnings
from pathlib import Path
from unittest.mock import patch
import cv2, numpy as np, pandas as pd, torch
from fastai.torch_core import default_device
from fundus_fastai.options import TrainOptions
from fundus_fastai.data.load import open_data
from fundus_fastai.explain.shortcuts import cheap_answer, cheap_looks, mean_of_aucs
from fundus_fastai.image.read import read_image
from fundus_fastai.image.recipe import Eye, circle_crop, field_of_view, recipes
from fundus_fastai.score.estimate import event_estimate, patient_bootstrap
from fundus_fastai.score.metrics import auc, grade_kappa, mean_abs_error
from fundus_fastai.vision import probe
from fundus_fastai.vision.learner import has_bf16
from fundus_fastai.vision.probe import BlockFeatures, patient_folds, refit_probe
from fundus_fastai.vision.steps import fit_run, make_learner, same_people
from fundus_fastai.vision.tasks import get_task
from rows import KEY, REAL, estimate, has, put

CONFOUNDED = dict(fundus_dme='by blur: see contrast and border', oct_dme='by patient numbers, and see contrast and border') # beside the measured baselines
NETS = dict(squeezenet1_1=(224,336), tf_efficientnet_lite0=(224,336), tf_efficientnet_lite2=(260,336), inception_v3=(299,299)) # side: own, fundus
QUESTIONS = [('oct','oct_dme','DME','auc'), ('anomaly','fundus_dme','DME','auc'), ('referable','idrid','dr_grade','auc'),
             ('dr_ordered','idrid','dr_grade','kappa'), ('risk','idrid','dme_risk','auc'), ('sex','odir5k',None,'auc'), ('age','odir5k',None,'mae'),
             ('diseases','odir5k',None,'mean auc')]
def own_side(arch, gray): return NETS.get(arch, (64,64))[not gray]
def large_side(arch): return own_side(arch, True)*3//2//32*32 # of scans, which are 640 wide
CLASS = dict(referable='anomaly', risk='anomaly') # the task of the library that asks it

def frame(root, task, data, label):
    "The rows of a question, with what is asked in `label`"
    root,kw = Path(root)/data,dict(label=label, patient='none' if data=='idrid' else 'patient_id')
    df = open_data(str(root)) if data=='odir5k' else open_data(root/'labels.csv', **kw)
    whole = df
    if data=='idrid': df = df[pd.to_numeric(df.label, errors='coerce').notna()].reset_index(drop=True) # two files give some another grade
    if task in CLASS: df = df.assign(label=np.where(df.label.astype(int)>=(2 if task=='referable' else 1), 'yes', 'no'))
    new = get_task(CLASS.get(task, task)).frame(df, None)
    attrs = new.attrs|dict(root=str(root), whole=whole)
    new = new.assign(patient=same_people(new)) # whose pictures are equal byte by byte
    new.attrs.update(attrs)
    return new

def picture(path, gray, side, left):
    "What a net sees: uint8 [side,side,3]; of a left eye the mirror image"
    im = read_image(path, gray=gray)
    im = cv2.resize(im, (side,side), interpolation=cv2.INTER_AREA) if gray else circle_crop(im, side, field_of_view(im))
    return np.ascontiguousarray(np.repeat(im[...,None], 3, 2) if gray else im[:,::-1] if left else im)

class Looks(BlockFeatures):
    "The readout's features, and the means of the last block in 4 x 4 places"
    def forward(self, x):
        self.body(x)
        out = [probe._by_channel(self.seen[n]).float() for n in self.names]
        last = probe.place_means(probe.as_map(self.seen[self.names[-1]]).float(), self.side)
        return torch.cat([*(o.mean(2) for o in out), *(o.std(2, correction=0) for o in out)], 1),last

def opts(o, arch, side, fit, **more):
    return TrainOptions(arch, weights=str(weights_of(arch, o.weights)), size=side, bs=32, workers=0, fit=fit, seed=o.seed, recipe='none', epochs=o.epochs, **more)
def weights_of(arch, folder): return next(f for f in sorted(Path(folder).iterdir()) if f.name.startswith(arch+'-'))

def flat(path, side):
    "What a net sees of a scan by the recipe `retina`: uint8 [side,side,3]"
    return np.ascontiguousarray(np.repeat(recipes['retina'](Eye.read(path, gray=True), side)[...,None], 3, 2))

def looked(o, df, data, arch, side, recipe=''):
    "Features and places of all images of a set: [N,D], [N,P], and seconds; kept in parts, so that a stopped run goes on"
    whole,kept,net,t = df.attrs['whole'],Path(o.keep)/f'{data}-{arch}-{side}{recipe and "-"+recipe}',None,time.time()
    kept.mkdir(parents=True, exist_ok=True)
    paths,left = sorted(whole.path.astype(str)),dict(zip(whole.path.astype(str), whole.eye.eq('L')))
    for i in range(0, len(paths), 256):
        f = kept/f'{i}.npz'
        if f.exists(): continue
        if net is None:
            two = whole.assign(split=np.resize(['train','valid'], len(whole)), label=np.resize(['a','a','b','b'], len(whole))) # its answers are not asked
            two.attrs['leak'] = True
            learn = make_learner(two, 'oct' if data.startswith('oct') else 'anomaly', opts(o, arch, side, 'readout'))
            mean,std = (torch.tensor(learn.config['normalize'][k]).view(1, 3, 1, 1) for k in ('mean','std'))
            net = Looks(learn.model[0].body, learn.model[0].names).eval()
            net.side = probe.count_places(learn.model[0].eval(), torch.zeros(1, 3, side, side)) # 4, of a large map
            net.to(memory_format=torch.channels_last)
        out = []
        for j in range(i, min(i+256, len(paths)), 16):
            ims = [flat(p, side) if 'retina' in recipe else picture(p, data.startswith('oct'), side, left[p]) for p in paths[j:min(j+16, i+256)]]
            if 'mirrored' in recipe: ims = [np.ascontiguousarray(im[:,::-1]) for im in ims]
            x = torch.from_numpy(np.stack(ims)).permute(0, 3, 1, 2).float()/255
            with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16, enabled=has_bf16()):
                out.append([v.half().numpy() for v in net(((x-mean)/std).contiguous(memory_format=torch.channels_last))])
        x,place = map(np.concatenate, zip(*out))
        np.savez(f.with_suffix('.part.npz'), x=x, place=place, seconds=time.time()-t)
        f.with_suffix('.part.npz').rename(f)
        t = time.time()
    parts = [np.load(kept/f'{i}.npz') for i in range(0, len(paths), 256)]
    at = pd.Index(paths).get_indexer(df.path.astype(str))
    return *(np.concatenate([p[k] for p in parts])[at].astype(np.float32) for k in ('x','place')),sum(float(p['seconds']) for p in parts)

def twice_looked(o, df, data, arch, side, laid):
    "Features as `looked` gives them, and seconds; `mirrored`: the mean of those of a picture and of its mirror image"
    x,_,seconds = looked(o, df, data, arch, side, laid)
    if not laid.endswith('mirrored'): return x,seconds
    straight,_,more = looked(o, df, data, arch, side, laid.removesuffix('mirrored').removesuffix('-'))
    return (x+straight)/2,seconds+more

def folds(df):
    "Rows of five folds, patients together, classes or thirds of a number spread"
    names = df.attrs.get('labels') if df.label.astype(str).str.contains(' + ', regex=False).any() else None
    y = df[list(names)].to_numpy()[:,np.argmin(df[list(names)].sum())] if names else df.label
    if np.issubdtype(np.asarray(y).dtype, np.number) and len(set(y))>10: y = pd.qcut(y, 3, labels=False, duplicates='drop')
    return [v for _,v in patient_folds(pd.Series(np.asarray(y)).astype('category').cat.codes.to_numpy(), df.patient.to_numpy())]

def split(df, deal, i):
    s = np.full(len(df), 'train', dtype=object)
    s[deal[i]],s[deal[(i+1)%len(deal)]] = 'test','valid'
    new = df.assign(split=s)
    new.attrs.update(df.attrs)
    return new

def answers(learn, test, scores=None):
    "The table of a net's answers, as [N,k]: of the yes-class, of each label, or the number"
    t = learn.predict_frame(test, scores=scores)
    names = list(learn.output.names) if learn.output.kind.labels or learn.output.kind.classes else []
    cols = [f'p_{n}' for n in (names if learn.output.kind.labels else names[-1:])] if names else ['pred']
    return t[cols].to_numpy(float)

def readout(o, df, task, arch, side, x, hears=None):
    "What the library's readouts say of each fold that is held back"
    at,res,deal = {p:i for i,p in enumerate(df.path.astype(str))},None,folds(df)
    def known(net, dl): return x[[at[str(p)] for p in dl.items.path]]
    with patch.object(probe, 'features', known):
        for i in range(len(deal)):
            learn = make_learner(split(df, deal, i), CLASS.get(task, task), opts(o, arch, side, 'readout', readout=hears))
            learn.fit_probe()
            refit_probe(learn)
            with torch.no_grad(): z = learn.model[1].cpu()(torch.from_numpy(x[deal[i]]))
            p = answers(learn, df.iloc[deal[i]].reset_index(drop=True), z.numpy())
            res = np.zeros((len(df),p.shape[1])) if res is None else res
            res[deal[i]] = p
    return res

def gram(parts):
    "The mean of the linear kernels of several groups of features"
    ks = []
    for x in parts:
        x = ((x-x.mean(0))/(x.std(0)+1e-4)).clip(-5, 5)
        k = x@x.T
        ks.append(k/np.diag(k).mean())
    return np.mean(ks, 0)

def gaussian(k, width):
    "The Gaussian kernel of the distances that a linear kernel [N,N] holds"
    d = np.diag(k)
    return np.exp(-(d[:,None]+d-2*k)/width)

def kernel(o, df, asked, parts):
    "Ridge regression on kernels; penalty and width are chosen in folds within the others: answers [N,k]"
    from sklearn.kernel_ridge import KernelRidge
    k,y,deal = gram(parts),asked.astype(float),folds(df)
    res,ks = np.zeros(asked.shape),dict(linear=k, rbf=gaussian(k, 2))
    def fit(k, a, b, alpha): return KernelRidge(alpha=alpha, kernel='precomputed').fit(k[np.ix_(a, a)], y[a]-y[a].mean(0)).predict(k[np.ix_(b, a)])+y[a].mean(0)
    for held in deal:
        rest = np.setdiff1d(np.arange(len(df)), held)
        inner = [np.intersect1d(v, rest) for v in deal if v is not held]
        def loss(how): return np.mean([np.square(fit(ks[how[0]], np.setdiff1d(rest, v), v, how[1])-y[v]).mean() for v in inner])
        best = min(((n,a) for n in ks for a in (.1, .3, 1., 3.)), key=loss)
        res[held] = fit(ks[best[0]], rest, held, best[1])
    return res

def vectors(o, df, asked, blocks, places, number):
    "Support vectors on a Gaussian kernel: the mean of five ways (width, penalty, with places or without), the best within the other folds: [N,1]"
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC, SVR
    y,deal,res,ks = asked[:,0].astype(float),folds(df),np.zeros(asked.shape),{}
    for seen,parts in dict(blocks=blocks, both=[*blocks, *places]).items():
        k = gram(parts).astype(float)
        ks |= {(seen,s):gaussian(k, s) for s in (1, 2, 4)}
    def fit(how, a, b):
        k,C,eps = ks[how[0]],*how[1:]
        if not number: return SVC(C=C, kernel='precomputed').fit(k[np.ix_(a, a)], y[a]).decision_function(k[np.ix_(b, a)])
        m = np.median(y[a])
        return SVR(C=C, epsilon=eps, kernel='precomputed').fit(k[np.ix_(a, a)], y[a]-m).predict(k[np.ix_(b, a)])+m
    ways = [(k,C,eps) for k in ks for C in ((10,20,30,50) if number else (.3,1,3,10)) for eps in ((.5,1,2) if number else (0,))]
    for held in deal:
        rest = np.setdiff1d(np.arange(len(df)), held)
        inner = [np.intersect1d(v, rest) for v in deal if v is not held]
        def unseen(how): return map(np.concatenate, zip(*[(y[v],fit(how, np.setdiff1d(rest, v), v)) for v in inner]))
        def loss(how):
            t,p = unseen(how)
            return np.abs(t-p).mean() if number else -auc(t==1, p)
        best = sorted(ways, key=loss)[:5]
        print('  chosen:', *best, flush=True)
        for how in best:
            z = fit(how, rest, held)
            if not number: # Platt: margins of different machines on one scale
                t,p = unseen(how)
                z = LogisticRegression(C=1e6).fit(p[:,None], t==1).predict_proba(z[:,None])[:,1]
            res[held,0] += z/len(best)
    return res

def tuned(o, df, task, arch, fit, gray):
    "What the library's tuned nets say of the first folds, `NaN` for the rest"
    res,deal = None,folds(df)
    with tempfile.TemporaryDirectory() as tmp:
        small = [f'{tmp}/{i}.png' for i in range(len(df))]
        for s,p,e in zip(small, df.path, df.eye): cv2.imwrite(s, picture(str(p), gray, o.side, e=='L')[...,::-1])
        there = df.assign(path=small)
        there.attrs.update(df.attrs, root=tmp)
        for i in range(o.folds):
            torch.manual_seed(o.seed)
            ask = opts(o, arch, o.side, fit)
            learn = make_learner(split(there, deal, i), CLASS.get(task, task), ask)
            fit_run(learn, f'{tmp}/run{i}', ask)
            if hasattr(learn, 'probed'): refit_probe(learn)
            p = answers(learn, there.iloc[deal[i]].reset_index(drop=True))
            res = np.full((len(df),p.shape[1]), np.nan) if res is None else res
            res[deal[i]] = p
    return res

def truth(df, task, metric):
    "What is asked, as [N,k]"
    if metric=='mean auc': return df[list(df.attrs['labels'])].to_numpy(int)
    if metric=='auc': return (df.label.astype(str)==sorted(set(df.label.astype(str)))[-1]).to_numpy(int)[:,None]
    return df.label.to_numpy(float)[:,None]

def measure(metric, y, p, who):
    "The figure with its interval"
    if metric=='auc': return event_estimate(auc, y[:,0], p[:,0], patient=who)
    if metric=='mae': return patient_bootstrap(mean_abs_error, y[:,0], p[:,0], patient=who)
    if metric=='mean auc': return patient_bootstrap(mean_of_aucs, y, p, patient=who)
    return patient_bootstrap(grade_kappa, y[:,0].astype(int), p[:,0].round().clip(0, y.max()).astype(int), patient=who)

def by_patient(df, *arrays):
    "Means over the images of each patient, and one row of each"
    w,at = np.unique(df.patient.to_numpy(), return_inverse=True)
    n = np.bincount(at)
    def mean(a): return np.stack([np.bincount(at, c)/n for c in a.T], 1)
    one = df.iloc[np.unique(at, return_index=True)[1]].reset_index(drop=True)
    one.attrs.update(df.attrs)
    return one,*map(mean, arrays)

def baselines(o, df, data, y, metric):
    "What is reached without a look at the retina, in words"
    kept = Path(o.keep)/f'{data}-looks.pkl'
    if not kept.exists(): pd.to_pickle({str(p):cheap_looks(p) for p in df.attrs['whole'].path}, kept)
    looks,said = pd.read_pickle(kept),[]
    for k in ('border','file','contrast'):
        x = np.stack([looks[str(p)][k] for p in df.path])
        p = cheap_answer(x, y, np.ones(len(df), bool), patient=df.patient.to_numpy(), number=metric in ('mae','kappa'))
        said.append(f'{k} {measure(metric, y, p, df.patient.to_numpy()).value:.3f}')
    n = df.patient.astype(str).str.extract(r'(\d+)')[0].fillna(0).astype(float).to_numpy()
    if metric=='auc' and data!='idrid': said.append(f'patient number {max(a := auc(y[:,0]==1, n), 1-a):.3f}') # a hospital that numbers its ill
    if metric=='mae': said.append(f'one guess {np.abs(y-np.median(y)).mean():.2f}')
    return '; '.join(said)

def wanted(words, *what): return any(all(w in ' '.join(map(str, what)) for w in ws.split(',')) for ws in words.split('|'))

def ask(o, question):
    "All rows of a question"
    task,data,label,metric = question
    gray,plans,several = data.startswith('oct'),[],o.archs[:3]
    for arch in o.archs: plans.append((arch, own_side(arch, gray), 'readout'))
    if gray: plans += [(a, own_side(a, gray), f'readout, retina{m}') for m in ('',', mirrored') for a in o.archs]
    if gray: plans += [(a, large_side(a), 'readout, retina') for a in o.archs]
    if data!='odir5k': plans += [(a, own_side(a, gray), 'readout, mirrored') for a in o.archs]
    if task in ('sex','age'): plans += [(a, own_side(a, gray), 'readout of places') for a in several[:2]]
    plans.append(('+'.join(several), 'own' if gray else 336, 'together'))
    if gray: plans += [('+'.join(o.archs), 'own', f'together, retina {t}too') for t in ('','and mirror ')]
    if metric!='mean auc': plans += [('+'.join(a), 'own' if gray or a==o.archs else 336, 'kernel') for a in (several[:2], o.archs)]
    if metric in ('auc','mae'): plans.append(('+'.join(o.archs), 'own' if gray or len(o.archs)>1 else own_side(o.archs[0], gray), 'support vectors'))
    if data=='odir5k' and metric!='mean auc': plans += [('+'.join(a), 336, f'kernel of {k}') for a in (several[:2], *([o] for o in several[:2])) for k in ('blocks','places')]
    if data!='odir5k': plans += [(a, o.side, f'{f}, {o.folds} folds, {o.epochs} epochs') for a in o.archs for f in ('auto','tune')]
    per = ['image','patient'] if task in ('sex','age') else ['image']
    plans = [(a,s,r) for a,s,r in plans if wanted(o.only, task, data, a, r)]
    key = lambda a, s, r, p: dict(zip(KEY, (task,data,a,s,r,metric,p,o.seed)))
    plans = [p for p in plans if not has(o.out, **key(*p, per[-1]))]
    if not plans or not (Path(o.data)/data).is_dir(): return
    df = frame(o.data, task, data, label)
    y = truth(df, task, metric)
    base = baselines(o, df, data, y, metric)
    for arch,side,recipe in plans:
        t,extra = time.time(),0
        kept = Path(o.keep)/f'answers-{task}-{data}-{{}}.npy'
        if recipe!='readout of places' and recipe.startswith('readout'):
            laid = recipe.removeprefix('readout').replace(', ', '-').removeprefix('-')
            x,extra = twice_looked(o, df, data, arch, side, laid)
            t = time.time() # what was looked at earlier cost its own seconds
            p = readout(o, df, task, arch, side, x)
            if side==own_side(arch, gray): np.save(str(kept).format(arch+(laid and '-'+laid)), p) # for `together`
        elif recipe=='readout of places':
            x,place,extra = looked(o, df, data, arch, side)
            t = time.time()
            p = readout(o, df, task, arch, side, np.concatenate([x,place], 1), 'places')
        elif recipe.startswith('together'):
            twice = '-mirrored' if 'mirror' in recipe else ''
            asked = [(a,'') for a in several] if recipe=='together' else [(a,(laid+twice).removeprefix('-')) for a in o.archs for laid in ('','retina')]
            names = [str(kept).format(a+(laid and '-'+laid)) for a,laid in asked]
            for (a,laid),f in zip(asked, names): # whose rows may be older than what is kept
                if Path(f).exists(): continue
                x = twice_looked(o, df, data, a, own_side(a, gray), laid)[0]
                np.save(f, readout(o, df, task, a, own_side(a, gray), x))
            p = np.mean([np.load(f) for f in names], 0)
        elif recipe.startswith(('kernel','support')):
            parts = []
            for a in arch.split('+'):
                x,place,s = looked(o, df, data, a, own_side(a, gray))
                parts,extra = [*parts, *([x] if 'places' not in recipe else []), *([place] if 'blocks' not in recipe else [])],extra+s
            t = time.time()
            one,y1,*parts = by_patient(df, y, *parts) if per[-1]=='patient' else (df, y, *parts)
            p = kernel(o, one, y1, parts) if recipe!='support vectors' else vectors(o, one, y1, parts[::2], parts[1::2], metric=='mae')
        else: p = tuned(o, df, task, arch, recipe.partition(',')[0], gray)
        minutes = round((time.time()-t+extra)/60, 1)
        for how in per:
            rows,yy,pp = df,y,p
            if recipe.startswith(('kernel','support')):
                if how!=per[-1]: continue
                rows,yy = (one, y1)
            elif how=='patient': rows,yy,pp = by_patient(df, y, p)
            ok = ~np.isnan(pp[:,0])
            e = measure(metric, yy[ok].round(6), pp[ok], rows.patient.to_numpy()[ok])
            files = ', '.join(weights_of(a, o.weights).name for a in arch.split('+'))
            put(o.out, task=task, data=data, images=int(np.isin(df.patient, rows.patient[ok]).sum()), patients=rows.patient[ok].nunique(), net=arch, weights=files, side=side, recipe=recipe, metric=metric, per=how,
                           **estimate(e), baselines=base, confounded=CONFOUNDED.get(data, ''), minutes=minutes, seed=o.seed,
                           command=' '.join(['tests/benchmarks/real.py ../shared/data ../shared/weights --only', ','.join([task,data,arch,recipe.partition(',')[0]])]))

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data'); p.add_argument('weights')
    p.add_argument('--only', default='', help='words between commas that a row is to hold')
    p.add_argument('--archs', default=','.join(NETS)); p.add_argument('--out', default=str(REAL))
    p.add_argument('--keep', default=str(Path(tempfile.gettempdir())/'fundus-real'))
    for k,v in dict(side=128, folds=2, epochs=3, seed=0, threads=2).items(): p.add_argument(f'--{k}', type=int, default=v)
    o = p.parse_args(args)
    o.archs = o.archs.split(',')
    torch.set_num_threads(o.threads); cv2.setNumThreads(1); default_device(False); warnings.simplefilter('ignore')
    Path(o.keep).mkdir(parents=True, exist_ok=True)
    for q in QUESTIONS: ask(o, q)

if __name__=='__main__': main()
