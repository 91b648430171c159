"""Which rates suit a pretrained net on real eyes? python tests/benchmarks/recipe.py DATA WEIGHTS [--archs A,B] [--recipes R,S] [--folds N] ...

DATA: the folder of `oct_dme` (labels.csv, images/); WEIGHTS: a folder with one file of weights for each net, ARCH-*.{npz,safetensors}.
A recipe is GROUPS:RATIO, as stages:10: the body's stages as layer groups (or `body`, fastai's one group of a timm net), and the ratio of the
rates of head and first stage (`lr_mult`); `probe` is the linear readout of the frozen net, `auto:RATIO` the tuning that begins from it;
`scratch:RATE:EPOCHS` needs no weights: all of a net that knows nothing, at one rate.
Patients are dealt to five folds; each of the first N is held back in turn, the next one validates. Prints a line for each fit, and in the
end for each net and recipe the AUC of DME on all patients held back with an interval by patients, and minutes; --out keeps it as CSV, and
--table puts what began from scratch into real.csv.
Scans are made small once (--side), in --precision (mixed: batches in bfloat16): this ranks recipes, it is not the score of a shipped net."""
import argparse, sys, tempfile, time, warnings
from pathlib import Path
import cv2, numpy as np, pandas as pd, torch
from fastai.torch_core import default_device
from fastai.vision.learner import default_split
from rows import put
from fundus_fastai.options import TrainOptions
from fundus_fastai.data.load import open_data
from fundus_fastai.score.estimate import event_estimate
from fundus_fastai.score.metrics import auc
from fundus_fastai.vision.learner import one_cycle_plan
from fundus_fastai.vision.probe import patient_folds
from fundus_fastai.vision.steps import make_learner
from fundus_fastai.vision.tasks import get_task

def small(data, to, side):
    "The frame of the set, its scans made `side` pixels wide in `to`"
    df = open_data(Path(data)/'labels.csv', label='DME', patient='patient_id')
    df,new = get_task('oct').frame(df, None),[]
    for i,p in enumerate(df.path):
        im = cv2.imread(str(p), cv2.IMREAD_GRAYSCALE)
        new.append(str(Path(to)/f'{i}.png')); cv2.imwrite(new[-1], cv2.resize(im, (side,side), interpolation=cv2.INTER_AREA))
    return df.assign(path=new)

def weights_of(arch, folder): return next(o for o in sorted(Path(folder).iterdir()) if o.name.startswith(arch+'-'))

def fit(df, arch, recipe, o):
    "The learner of a net and a recipe, trained"
    kind,_,more = recipe.partition(':')
    way = dict(probe='readout', auto='auto').get(kind, 'tune')
    weights = 'none' if kind=='scratch' else str(weights_of(arch, o.weights))
    torch.manual_seed(o.seed)
    learn = make_learner(df, 'oct', TrainOptions(arch, weights=weights, size=o.side, bs=o.bs, workers=0, fit=way, seed=o.seed, precision=o.precision))
    if kind=='probe': learn.fit_probe(); return learn
    if kind=='body': learn.splitter = default_split
    if kind=='scratch': plan = one_cycle_plan(int(more.split(':')[1]), 0, float(more.split(':')[0]), pretrained=False)
    else: plan = one_cycle_plan(o.epochs, 0 if kind=='auto' else o.freeze, o.lr/(10 if kind=='auto' else 1), lr_mult=float(more))
    with learn.no_bar(), learn.no_logging():
        if kind!='auto': learn.fit_eye(plan, o.seed); return learn
        learn.fit_probe()
        learn.tune_readout(lambda to_beat,cbs: learn.fit_eye(plan, o.seed, to_beat=to_beat, cbs=cbs))
    print(f'{arch} {recipe}:', learn.kept, file=sys.stderr)
    return learn

def tell(table, r, data):
    "A row of real.csv: what a net that began from nothing reached"
    _,rate,epochs = r['recipe'].split(':')
    what = dict(task='scratch', data=Path(data).name, net=r['arch'], weights='none', recipe=f'{epochs} epochs at {rate}', metric='auc', per='image')
    figure = {k:round(float(r[o]), 4) for k,o in dict(figure='auc', low='low', high='high').items()}
    command = f"tests/benchmarks/recipe.py {data} WEIGHTS --archs {r['arch']} --recipes {r['recipe']} --folds {r['folds']} --side {r['side']}"
    put(table, **what, **figure, **{k:r[k] for k in ('images','patients','side','seed')}, minutes=round(float(r['minutes']), 1), command=command,
        confounded='by patient numbers, and see contrast and border' if Path(data).name=='oct_dme' else '')

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data'); p.add_argument('weights')
    p.add_argument('--archs', default='squeezenet1_1,tf_efficientnet_lite0,inception_v3')
    p.add_argument('--recipes', default='probe,body:100,stages:100,stages:20,stages:10,stages:4,stages:1')
    for k,v in dict(folds=1, side=128, epochs=3, freeze=1, bs=32, seed=0, threads=2).items(): p.add_argument(f'--{k}', type=int, default=v)
    p.add_argument('--lr', type=float, default=2e-3); p.add_argument('--out'); p.add_argument('--table'); p.add_argument('--precision', default='mixed')
    o = p.parse_args(); torch.set_num_threads(o.threads); cv2.setNumThreads(1); default_device(False); warnings.simplefilter('ignore')
    rows = []
    with tempfile.TemporaryDirectory() as d:
        df = small(o.data, d, o.side); df.attrs['root'] = d
        deal = [v for _,v in patient_folds(df.label.astype('category').cat.codes.to_numpy(), df.patient.to_numpy())]
        for arch in o.archs.split(','):
            for recipe in o.recipes.split(','):
                t,held = time.time(),[]
                for i in range(o.folds):
                    split = np.full(len(df), 'train', dtype=object); split[deal[i]] = 'test'; split[deal[(i+1)%len(deal)]] = 'valid'
                    learn = fit(df.assign(split=split), arch, recipe, o)
                    test = df.iloc[deal[i]].reset_index(drop=True)
                    name = learn.output.names[-1]
                    held.append(test.assign(y=(test.label.astype(str)==name).astype(int), p=learn.predict_frame(test)[f'p_{name}'].to_numpy()))
                    print(f'{arch} {recipe} fold {i}: {auc(held[-1].y.to_numpy(), held[-1].p.to_numpy()):.4f}', file=sys.stderr, flush=True)
                got = pd.concat(held)
                e = event_estimate(auc, got.y.to_numpy(), got.p.to_numpy(), patient=got.patient.to_numpy())
                rows.append(dict(arch=arch, recipe=recipe, auc=e.value, low=e.low, high=e.high, images=len(got), patients=got.patient.nunique(),
                                 folds=o.folds, epochs=o.epochs, side=o.side, seed=o.seed, minutes=round((time.time()-t)/60, 2)))
                print(' '.join(f'{k} {v:.4f}' if isinstance(v, float) else f'{v}' for k,v in rows[-1].items()), flush=True)
                if o.table and recipe.startswith('scratch'): tell(o.table, rows[-1], o.data)
                if o.out: pd.DataFrame(rows).to_csv(o.out, index=False)

if __name__=='__main__': main()
