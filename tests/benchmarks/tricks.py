"""Are the tricks of o_O's team (Kaggle 2015) worth it today? python tests/benchmarks/tricks.py ARM... --data DATA --weights FILE [--out DIR]

ARM: plain, sizes (half, three quarters, all of the side, the weights carried over), sample (balanced drawing), decay (drawing that goes from balanced
to nearly natural), gem (generalized mean pooling in place of mean and maximum), rms (the same with its exponent held at 2): each trains a
tf_efficientnet_lite0 on the grades of `idrid` as points on a line, five folds, each image held back once; images are their own patients, since the
set tells none. `eyes` asks `odir5k` for diabetic retinopathy instead: a linear layer on the frozen net's features of an eye (one look, or mean and
spread of several), of both eyes, and the plain mean of the two eyes' answers; five folds by patients. Arms keep their answers in --out;
`pool` asks pooling
alone, of the frozen net, for referable retinopathy. `table` compares all that lie there with plain, paired: quadratic kappa and AUC of referable retinopathy, seconds of training."""
import argparse, time, warnings
from pathlib import Path
import cv2, numpy as np, pandas as pd, torch
from fastai.vision.all import Callback, Flatten, create_head, default_device, nn
from torch.nn import functional as F
from fundus_fastai.image.recipe import circle_crop
from fundus_fastai.options import TrainOptions
from fundus_fastai.data.odir import read_odir
from fundus_fastai.score.compare import paired_bootstrap
from fundus_fastai.score.metrics import auc, grade_kappa
from fundus_fastai.vision.learner import one_cycle_plan
from fundus_fastai.vision.probe import patient_folds
from fundus_fastai.vision.steps import make_learner


class GeM(nn.Module):
    "The mean of the p-th powers, its p-th root: 1 is the mean, infinity the maximum"
    def __init__(self, p=3., learned=True):
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p), requires_grad=learned)
    def forward(self, x):
        with torch.autocast(x.device.type, enabled=False):
            return x.float().clamp(min=1e-6).pow(self.p).mean((2,3)).pow(1/self.p)


class Decay(Callback):
    "Draw classes by w_t = r^t w_0 + (1-r^t) w_f: balanced in the first epoch, nearly natural in the last"
    def __init__(self, label, epochs):
        n = label.value_counts()
        self.label,self.w0,self.r = label,n.max()/n,.01**(1/epochs)
    def before_epoch(self):
        t = len(self.checkpoint.rows)
        w = self.r**t*self.w0 + (1-self.r**t)*self.w0**.2
        self.learn.dls.train.wgts = (o := self.label.map(w).to_numpy(float))/o.sum()


def small(paths, to, side):
    "The files' round fields, `side` pixels wide, written once to `to`"
    to.mkdir(parents=True, exist_ok=True)
    new = [to/f'{Path(p).stem}.png' for p in paths]
    for p,q in zip(paths, new):
        if not q.exists(): cv2.imwrite(str(q), cv2.resize(circle_crop(cv2.imread(str(p))), (side,side), interpolation=cv2.INTER_AREA))
    return [str(o) for o in new]


def learner(df, arm, o, size):
    opts = TrainOptions('tf_efficientnet_lite0', weights=o.weights, size=size, bs=16, workers=0, fit='tune', seed=o.seed, recipe='none',
                        precision='mixed', balance='sample' if arm in ('sample','decay') else 'none')
    learn = make_learner(df, 'dr_ordered', opts)
    if arm in ('gem','rms'):
        head = create_head(1280, 1, pool=False)
        learn.model[1] = nn.Sequential(GeM(*((3.,True) if arm=='gem' else (2.,False))), Flatten(), *head)
    return learn


def stages(df, arm, o):
    "Sizes, and the epochs of each"
    if arm!='sizes': return [(o.side, o.epochs)]
    each = [o.epochs//3+(i<o.epochs%3) for i in range(3)]
    return list(zip((o.side//2//8*8, o.side*3//4//8*8, o.side), each))


def trained(df, arm, o):
    "The learner of an arm, and the seconds it took"
    seconds,before = 0,None
    for i,(size,epochs) in enumerate(stages(df, arm, o)):
        torch.manual_seed(o.seed)
        learn = learner(df, arm, o, size)
        if before: learn.model.load_state_dict(before)
        plan = one_cycle_plan(epochs, 0 if i else 1, o.lr)
        cbs = [Decay(df.label[df.split=='train'], o.epochs+1)] if arm=='decay' else None
        with learn.no_bar(), learn.no_logging():
            t = time.process_time()
            learn.fit_eye(plan, o.seed, cbs=cbs)
            seconds += time.process_time()-t
        before = learn.model.state_dict()
    return learn,seconds


def grades(arm, o):
    df = pd.read_csv(o.data/'idrid/labels.csv')
    df = df[pd.to_numeric(df.dr_grade, errors='coerce').notna()].reset_index(drop=True)
    paths = small([o.data/'idrid'/p for p in df.image], o.out/f'idrid{o.side}', o.side)
    df = pd.DataFrame(dict(path=paths, patient=df.image_id.astype(str), label=df.dr_grade.astype(float)))
    deal = [v for _,v in patient_folds(df.label.to_numpy(int), df.patient.to_numpy())]
    for i in range(len(deal)):
        to = o.out/f'{arm}-{o.seed}-{i}.csv'
        if to.exists(): continue # of an earlier call
        split = np.full(len(df), 'train', dtype=object)
        split[deal[i]],split[deal[(i+1)%len(deal)]] = 'test','valid'
        learn,s = trained(df.assign(split=split), arm, o)
        got = df.iloc[deal[i]].reset_index(drop=True)
        got.assign(pred=learn.predict_frame(got).pred.to_numpy(), seconds=s).drop(columns='path').to_csv(to, index=False)
        print(arm, i, f'{s:.0f} s', flush=True)


def features(paths, o, looks):
    "Features [N,looks,F] of the frozen net: the picture as it is, then turned by lot, flipped, a little larger"
    import timm
    from safetensors.torch import load_file
    net = timm.create_model('tf_efficientnet_lite0', num_classes=0).eval()
    net.load_state_dict({k:v.float() for k,v in load_file(o.weights).items() if not k.startswith('classifier')}, strict=False)
    rng,res = np.random.default_rng(0),[]
    for p in paths:
        im,views = cv2.cvtColor(cv2.imread(p), cv2.COLOR_BGR2RGB),[]
        for k in range(looks):
            m = cv2.getRotationMatrix2D((o.side/2-.5,)*2, rng.uniform(0, 360), rng.uniform(1, 1.1))
            v = im if not k else cv2.warpAffine(im, m, (o.side,o.side), flags=cv2.INTER_AREA)
            views.append(v[:,::-1] if k%2 else v)
        x = torch.from_numpy(np.stack(views)).permute(0,3,1,2).float()/127.5-1
        with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16): res.append(net(x).float().numpy())
    return np.stack(res)


def pool(o):
    "Pooling alone: the last map of the frozen net, pooled in several ways, under one linear layer"
    import timm
    from safetensors.torch import load_file
    df = pd.read_csv(o.data/'idrid/labels.csv')
    df = df[pd.to_numeric(df.dr_grade, errors='coerce').notna()].reset_index(drop=True)
    net = timm.create_model('tf_efficientnet_lite0', num_classes=0, global_pool='').eval()
    net.load_state_dict({k:v.float() for k,v in load_file(o.weights).items() if not k.startswith('classifier')}, strict=False)
    maps = []
    for p in small([o.data/'idrid'/p for p in df.image], o.out/f'idrid{o.side}', o.side):
        x = torch.from_numpy(cv2.cvtColor(cv2.imread(p), cv2.COLOR_BGR2RGB)).permute(2,0,1)[None].float()/127.5-1
        with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16): maps.append(net(x).float())
    f,y,who = torch.cat(maps),df.dr_grade.to_numpy(int)>=2,df.image_id.astype(str).to_numpy()
    mean,top = f.mean((2,3)).numpy(),f.amax((2,3)).numpy()
    ways = {'mean and maximum':np.hstack([mean,top]), 'mean':mean, 'maximum':top} | {f'GeM {p}':GeM(float(p), False)(f).numpy() for p in (2,3,5)}
    got = {k:out_of_fold(x, y.astype(int), who) for k,x in ways.items()}
    for k,p in got.items():
        d = [paired_bootstrap(auc, y, (p, got[j]), patient=who).estimate for j in ('mean and maximum','mean')]
        print(f'{k:16} AUC {auc(y, p):.3f}; minus mean and maximum {d[0]:+.3f}; minus mean {d[1]:+.3f}', flush=True)


def out_of_fold(x, y, patient):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    p = np.zeros(len(y))
    for fit,held in patient_folds(y, patient):
        net = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000)).fit(x[fit], y[fit])
        p[held] = net.decision_function(x[held])
    return p


def eyes(o):
    df = read_odir(o.data/'odir5k')
    ill = df.grade.fillna(-1)>0
    df = df.assign(y=ill.astype(int))[ill|df.keywords.str.contains('normal fundus')]
    both = df.groupby('patient').eye.transform('nunique')==2
    rng,sick = np.random.default_rng(0),df[both].groupby('patient').y.max()
    who = [p for k in (0,1) for p in rng.permutation(sick.index[sick==k])[:o.patients]]
    df = df[both&df.patient.isin(who)].sort_values(['patient','eye']).reset_index(drop=True)
    t = time.process_time()
    f = features(small(df.path, o.out/f'odir{o.side}', o.side), o, o.looks)
    print(f'{len(df)} eyes of {df.patient.nunique()} patients, {df.y.sum()} with retinopathy; {time.process_time()-t:.0f} s', flush=True)
    y,patient = df.y.to_numpy(),df.patient.to_numpy()
    fellow = np.arange(len(df))^1
    assert (patient==patient[fellow]).all()
    one,right = f[:,0],(df.eye=='R').to_numpy()[:,None]
    mean,sd = f.mean(1),f.std(1)
    arms = dict(own=out_of_fold(one, y, patient), tta=out_of_fold(mean, y, patient), spread=out_of_fold(np.hstack([mean,sd]), y, patient),
                both=out_of_fold(np.hstack([mean,mean[fellow],right]), y, patient),
                blend=out_of_fold(np.hstack([mean,sd,mean[fellow],sd[fellow],right]), y, patient))
    arms['mean of eyes'] = (arms['tta']+arms['tta'][fellow])/2
    pd.DataFrame(arms).assign(y=y, patient=patient).to_csv(o.out/f'eyes-{o.side}.csv', index=False)
    for k,p in arms.items():
        d = {j:paired_bootstrap(auc, y, (p, arms[j]), patient=patient) for j in ('own','mean of eyes')}
        print(f"{k:16} AUC {auc(y, p):.3f}; minus own {d['own'].estimate:+.3f}; minus mean of eyes {d['mean of eyes'].estimate:+.3f}", flush=True)


def table(o):
    runs = {}
    for f in sorted(o.out.glob('*-*-*.csv')):
        arm,*fold = f.stem.split('-')
        runs.setdefault(arm, {})[tuple(fold)] = pd.read_csv(f)
    kappa = lambda y, p, w=None: grade_kappa(y.astype(int), np.clip(np.round(p), 0, 4).astype(int), w)
    ref = lambda y, p, w=None: auc(y>=2, p, w)
    for arm in runs:
        folds = sorted(set(runs[arm])&set(runs['plain']))
        a,b = (pd.concat([runs[k][f] for f in folds], ignore_index=True) for k in (arm,'plain'))
        y,said = a.label.to_numpy(),[]
        for name,f in dict(kappa=kappa, referable=ref).items():
            d = paired_bootstrap(f, y, (a.pred.to_numpy(), b.pred.to_numpy()), patient=b.patient.astype(str).to_numpy())
            said.append(f'{name} {float(f(y, a.pred.to_numpy())):.3f}, minus plain {d.estimate:+.3f}')
        s = [sum(runs[k][j].seconds.iloc[0] for j in folds) for k in (arm,'plain')]
        print(f'{arm:7}', f'{len(folds)} fits;', '; '.join(said), f'; {s[0]:.0f} s, {s[0]/s[1]:.2f} of plain', flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('arms', nargs='+')
    p.add_argument('--data', type=Path, required=True)
    p.add_argument('--weights')
    p.add_argument('--out', type=Path, default=Path('tricks'))
    p.add_argument('--lr', type=float, default=4e-3)
    for k,v in dict(side=128, epochs=5, seed=0, looks=6, patients=300).items(): p.add_argument(f'--{k}', type=int, default=v)
    o = p.parse_args()
    torch.set_num_threads(1)
    default_device(False)
    warnings.simplefilter('ignore')
    o.out.mkdir(parents=True, exist_ok=True)
    for arm in o.arms:
        if arm=='eyes': eyes(o)
        elif arm=='pool': pool(o)
        elif arm=='table': table(o)
        else: grades(arm, o)


if __name__=='__main__': main()
