"""How fast is the patient bootstrap? python tests/benchmarks/stats.py [--images 34934 --patients 17126 --resamples 10000 --rounds 5]

Against a loop over scikit-learn on resampled rows (the row numbers drawn beforehand, which is not counted). Of that loop a few resamples
are timed and their minimum is multiplied; of ours a block of resamples, the drawing of patients counted. Interleaved, minima of processor time (one thread each: set OMP_NUM_THREADS=1); then once
the full number of ours. Ratios are what counts: seconds depend on the machine and on what else it does. The values of both are compared."""
import argparse, numpy as np
from functools import partial
from time import perf_counter, process_time
from scipy.special import logit
from sklearn import metrics as skm
from sklearn.linear_model import LogisticRegression
from fundus_fastai.score.metrics import (auc, average_precision, class_metrics, confusion, f1_by_class, mean_abs_error,
    patient_weights)
from fundus_fastai.score.calibration import calibration_slope
from fundus_fastai.score.estimate import bootstrap


def timed(f):
    t = process_time(); v = f()
    return process_time()-t, v


def study(images, patients, seed=0):
    "Truth, scores and patients; every patient has an image, the rest fall to anybody"
    rng = np.random.default_rng(seed)
    who = np.concatenate([np.arange(patients), rng.integers(patients, size=images-patients)])
    y = (rng.random(patients)<.5)[who]
    return rng, y, 1/(1+np.exp(-rng.normal(size=images)-1.9*y+.95)), who


def accuracy(y, s, w=None): return np.mean(y==(s>.5)) if w is None else w@(y==(s>.5))/w.sum(-1)
def macro_f1(y, s, w=None): return f1_by_class(confusion(y, s>.5, 2, w=w)).mean(-1)

def slope(y, s, w=None): return calibration_slope(y, s, w)['slope']
def slope_of(y, s): return LogisticRegression(C=np.inf, solver='newton-cholesky', tol=1e-8).fit(logit(s)[:,None], y).coef_[0,0]

PAIRS = {'AUC': (auc, skm.roc_auc_score),
         'AUC, scores with ties (2 digits)': (lambda y,s,w=None: auc(y, s.round(2), w), lambda y,s: skm.roc_auc_score(y, s.round(2))),
         'average precision': (average_precision, skm.average_precision_score),
         'accuracy': (accuracy, lambda y,s: skm.accuracy_score(y, s>.5)),
         'macro F1': (macro_f1, lambda y,s: skm.f1_score(y, s>.5, average='macro')),
         'calibration slope (and intercept)': (slope, slope_of),
         'mean absolute error': (mean_abs_error, lambda y,s: skm.mean_absolute_error(y, s))}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    for k,v in dict(images=34934, patients=17126, resamples=10_000, rounds=5, some=1000).items(): p.add_argument(f'--{k}', type=int, default=v)
    a = p.parse_args()
    rng,y,s,who = study(a.images, a.patients)
    w = next(patient_weights(who, 2))
    rows = [np.repeat(np.arange(a.images), o.astype(int)) for o in w] # two resamples of patients, as rows
    print(f'{a.images} images of {a.patients} patients; minima of {a.rounds} rounds; ms a resample')
    for name,(ours,loop) in PAIRS.items():
        got = bootstrap(ours, y, s, patient=who, n_boot=2)
        off = np.abs(got-[loop(y[r], s[r]) for r in rows]).max()
        best = {'ours':np.inf, 'loop':np.inf}
        for i in range(a.rounds):
            best['ours'] = min(best['ours'], timed(lambda: bootstrap(ours, y, s, patient=who, n_boot=a.some, seed=i))[0]/a.some)
            r = rows[i%2]
            best['loop'] = min(best['loop'], timed(lambda: loop(y[r], s[r]))[0])
        print(f"{name:<34} ours {1e3*best['ours']:7.3f}  scikit-learn {1e3*best['loop']:7.2f}  ratio {best['loop']/best['ours']:6.1f}"
              f"  largest difference {off:.1e}", flush=True)
    start = perf_counter()
    t,_ = timed(lambda: bootstrap(auc, y, s, patient=who, n_boot=a.resamples))
    print(f'all {a.resamples} resamples of the AUC: {t:.1f} s of processor time, {perf_counter()-start:.1f} s by the clock')


if __name__=='__main__': main()
