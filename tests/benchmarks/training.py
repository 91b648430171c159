"""How fast does a net learn on a CPU, and what does bfloat16 cost? python tests/benchmarks/training.py [speed|accuracy] [--out FILE.json]

speed: a training step of ours (channels-last, in full and in mixed precision) against plain fastai's `vision_learner`, on one ready
batch of random tensors: one process, interleaved, minima and medians; ratios are what counts. On all cores, or on --threads;
--processor counts the processor's seconds, for a busy machine and one thread; --compiled adds mixed precision after `torch.compile`,
and the seconds of its first step.
accuracy: the same seeds trained in full and in mixed precision; the difference of their AUC on unseen patients, the mean over seeds,
with an interval from resampled patients, and the differences by seed. On phantoms, and on a folder with labels.csv (file, patient_id,
DME) where --data names one. The long form: --images 709 --epochs 8 --size 224 --seeds 10."""
import argparse, json, os, sys, tempfile, time, warnings
from pathlib import Path
warnings.filterwarnings('ignore')
import numpy as np, pandas as pd, torch
from fastai.vision.all import Callback, vision_learner, set_seed
from fundus_fastai.all import eye_dls, eye_learner, find_net, one_cycle_plan, paired_bootstrap, split_patients, write_kermany
from fundus_fastai.score.metrics import mean_auc
from fundus_fastai.vision.learner import has_bf16

NETS = [('resnet50',224), ('inception_v3',299), ('tf_efficientnet_lite0',224)]

clock = time.perf_counter

class Clock(Callback):
    "Seconds of each pass over the training batches"
    def before_train(self): self.t0 = clock()
    def after_train(self): self.learn.took = clock()-self.t0

def ready_batches(size, bs):
    "`DataLoaders` that give one batch of random tensors"
    rng = np.random.default_rng(0)
    def noise(n, split): return pd.DataFrame(dict(path=[rng.integers(0, 255, (size,size), np.uint8) for _ in range(n)],
                                                  label=[*'AB']*(n//2), split=split))
    dls = eye_dls(pd.concat([noise(bs, 'train'), noise(2, 'valid')], ignore_index=True), size=size, bs=bs, workers=0, device='cpu')
    x,y = dls.train.one_batch()
    ready,cls = (torch.randn_like(x),y),type(dls.train)
    dls.train.__class__ = type('Ready', (cls,), {'__iter__': lambda self: iter([ready])})
    return dls

def step(learn):
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-4, cbs=Clock())
    return learn.took

def speed(arch, size, bs=16, rounds=3, compiled=False):
    "Seconds of a step, and how many times as fast as plain fastai"
    learns = dict(fastai=vision_learner(ready_batches(size, bs), find_net(arch).builder, pretrained=False, normalize=False))
    for p in ('full','mixed'): learns[p] = eye_learner(ready_batches(size, bs), arch, None, precision=p)
    if compiled:
        learns['compiled'] = eye_learner(ready_batches(size, bs), arch, None, precision='mixed')
        learns['compiled'].model.compile()
    took = {k:[] for k in learns}
    for o in learns.values(): o.unfreeze()
    for _ in range(rounds+1):
        for k,o in learns.items(): took[k].append(step(o))
    least,middle = ({k:f(v[1:]) for k,v in took.items()} for f in (min,np.median))
    row = dict(net=arch, size=size, bs=bs, seconds={k:round(float(v), 3) for k,v in least.items()},
               times={k:round(least['fastai']/least[k], 2) for k in least if k!='fastai'},
               times_of_medians={k:round(float(middle['fastai']/middle[k]), 2) for k in least if k!='fastai'})
    if compiled: row['first_step'] = round(took['compiled'][0], 1)
    print(f"{arch:24s} {size}: full {row['times']['full']} x, mixed {row['times']['mixed']} x plain fastai "
          f"(medians {row['times_of_medians']['full']}, {row['times_of_medians']['mixed']})"+(f", compiled {row['times']['compiled']} x after a first step of {row['first_step']} s" if compiled else ''), flush=True)
    return row

def real(folder, n):
    "Rows of at most `n` images, whole patients"
    d = Path(folder)
    t = pd.read_csv(d/'labels.csv', dtype=str)
    df = pd.DataFrame(dict(path=[str(d/'images'/Path(o).name) for o in t.file], patient=t.patient_id, label=t.DME))
    order = df.patient.drop_duplicates().sample(frac=1, random_state=0)
    df = df.set_index('patient').loc[order].reset_index()
    return df[:n].reset_index(drop=True)

def answers(df, precision, seed, o):
    "Probabilities of the unseen rows, trained in this precision"
    set_seed(seed)
    learn = eye_learner(eye_dls(df, size=o.size, bs=16, workers=0, device='cpu', cache=False), o.arch, o.weights or None, precision=precision)
    with learn.no_bar(), learn.no_logging(): learn.fit_eye(one_cycle_plan(o.epochs, 1 if o.weights else 0, pretrained=bool(o.weights)), seed)
    t = learn.predict_frame(df[df.split=='test'], label='label', workers=0).filter(like='p_')
    return t.to_numpy()

def accuracy(name, df, o):
    "Mixed minus full: AUC, mean over seeds, interval by patients"
    df = split_patients(df.assign(split=None), seed=1, valid=.2, test=.4) if 'split' not in df else df
    test = df[df.split=='test']
    y = test.label.map({k:i for i,k in enumerate(sorted(df.label.unique()))}).to_numpy()
    p = {k:[] for k in ('full','mixed')}
    for s in range(o.seeds):
        for k in p: p[k].append(answers(df, k, s, o))
    p = {k:np.stack(v, -1) for k,v in p.items()}
    def auc(y, p, w=None): return np.mean([mean_auc(y, p[...,i], w) for i in range(p.shape[-1])], axis=0)
    d = paired_bootstrap(auc, y, (p['mixed'],p['full']), patient=test.patient.to_numpy())
    by_seed = [round(float(mean_auc(y, p['mixed'][...,i])-mean_auc(y, p['full'][...,i])), 4) for i in range(o.seeds)]
    noise = float(np.std([mean_auc(y, p['full'][...,i]) for i in range(o.seeds)], ddof=1)) if o.seeds>1 else np.nan
    row = dict(data=name, images=len(df), unseen=len(test), patients=int(test.patient.nunique()), full=float(auc(y, p['full'])),
               mixed=float(auc(y, p['mixed'])), difference=d.value, low=d.low, high=d.high, by_seed=by_seed, sd_of_seeds=noise)
    print(f"{name}: AUC full {row['full']:.3f}, mixed {row['mixed']:.3f}, difference {d.value:+.4f} ({d.low:+.4f} to {d.high:+.4f}), "
          f"by seed {by_seed}; full precision alone differs by {noise:.4f} (sd) from seed to seed", flush=True)
    return row

if __name__=='__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('what', nargs='?', choices=['speed','accuracy'], default='speed')
    for k,v in dict(rounds=3, bs=16, images=200, epochs=2, size=96, seeds=5, patients=40, threads=os.cpu_count()).items(): ap.add_argument(f'--{k}', type=int, default=v)
    for k,v in dict(arch='squeezenet1_1', weights='', data='', nets='', out='').items(): ap.add_argument(f'--{k}', default=v)
    for k in ('processor','compiled'): ap.add_argument(f'--{k}', action='store_true')
    o = ap.parse_args()
    if o.processor: clock = time.process_time
    res = dict(torch=torch.__version__, cores=os.cpu_count(), bf16=has_bf16(), what=o.what, threads=o.threads, clock=clock.__name__, load=[round(x, 1) for x in os.getloadavg()])
    if o.what=='speed':
        torch.set_num_threads(o.threads)
        res['rows'] = [speed(a, s, o.bs, o.rounds, o.compiled) for a,s in NETS if a in (o.nets or a)]
    else:
        with tempfile.TemporaryDirectory() as tmp:
            res['rows'] = [] if not o.data else [accuracy(Path(o.data).name, real(o.data, o.images), o)]
            if not o.data: res['rows'] += [accuracy('phantoms', write_kermany(Path(tmp)/'k', patients=o.patients, size=(124,128)).drop(columns='split', errors='ignore'), o)]
    if o.out: Path(o.out).write_text(json.dumps(res, indent=1))
