"The readout of a frozen net: what thresholds are chosen by, and who is met where"
import numpy as np, pytest
from sklearn.metrics import roc_auc_score
from fundus_fastai.core import read_json
from fundus_fastai.options import DataOptions, TrainOptions
from fundus_fastai.run.train import train_run
from fundus_fastai.score.kinds import read_predictions
from fundus_fastai.score.metrics import best_threshold
from fundus_fastai.vision.probe import cross_fitted

def twins(n=60, copies=2, d=300, seed=0):
    "Noise, each person photographed `copies` times, nearly the same: whoever meets one of them knows the other"
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n,d)).repeat(copies, 0)+.01*rng.normal(size=(n*copies,d))
    return x, rng.integers(0, 2, n).repeat(copies), np.arange(n).repeat(copies)

@pytest.mark.parametrize('how', ['class','label'])
def test_no_row_is_read_by_whoever_met_its_patient(how):
    x,y,who = twins()
    z = cross_fitted(x, [(how,y,.1)], who, k=2)
    assert abs(roc_auc_score(y, z[:,-1])-.5)<.15
    assert roc_auc_score(y, cross_fitted(x, [(how,y,.1)], np.arange(len(x)), k=2)[:,-1])>.95 # the twin tells

def test_patients_on_both_sides_of_a_given_split_are_left_out_as_well():
    "Rows of a patient need not lie together"
    x,y,who = twins()
    lot = np.random.default_rng(1).permutation(len(x))
    z = cross_fitted(x[lot], [('class',y[lot],.1)], who[lot], k=2)
    assert abs(roc_auc_score(y[lot], z[:,1])-.5)<.15

@pytest.mark.parametrize('people', [2, 3, 7])
def test_few_patients(people):
    x,y,who = twins(people)
    assert np.isfinite(cross_fitted(x, [('class',y,.1), ('quantity',y*1.,.1)], who, k=2)).all()

def test_a_class_that_a_fold_lacks_is_unlikely_and_not_impossible():
    x,y,who = twins(40)
    z = cross_fitted(x, [('class',np.where(who==3, 2, y),.1)], who, k=3)
    p = np.exp(z)/np.exp(z).sum(1, keepdims=True)
    assert (p[who==3,2]<.05).all() and (p[who==3,2]>1e-4).all()

def test_thresholds_of_a_run_are_those_of_validation_csv(tmp_path):
    opts = TrainOptions('test_efficientnet', weights='none', size=32, fit='readout', workers=0)
    train_run('anomaly', DataOptions(patients=30), opts, out=tmp_path/'r', maps=0)
    v,m = read_predictions(tmp_path/'r/validation.csv'),read_json(tmp_path/'r/metrics.json')
    assert v.patient.nunique()>20 # those of training, too
    for o in m['operating_points']:
        y = (v.target==o['question']).to_numpy()
        assert o['threshold']==pytest.approx(best_threshold(y, v[f"p_{o['question']}"].to_numpy(), (o['goal'],o['at_least'])))
    page = (tmp_path/'r/report.html').read_text()
    assert page.count('each read by a readout that was fitted without its patient')==2
    assert 'chose the penalty, then taught the net too' in page and 'chose epoch' not in page
