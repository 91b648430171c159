"Metrics against scikit-learn, weighted or not"
import tracemalloc, numpy as np, pytest
from sklearn import metrics as skm
from fundus_fastai.core import DataError
from fundus_fastai.score.metrics import (Draws, auc, average_precision, best_threshold, class_metrics, cohen_kappa, confusion, f1,
    f1_by_class, matthews, patient_weights, quadratic_kappa, threshold_metrics)
from fundus_fastai.score.estimate import bootstrap, class_estimates
from made import micro, simulate

pytestmark = [pytest.mark.filterwarnings('error'), # no warning may be spilled, but for a pipe that another test's process left open
              pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')]

def test_many_classes_take_little_memory():
    "A matrix of k x k cells had been counted by one of k^2 x k^2: 60 GiB for 300 classes"
    rng = np.random.default_rng(0)
    n,k = 500,100
    y,said = rng.integers(0, k, (2,n))
    w = rng.random((2,3,n))
    tracemalloc.start()
    cm = confusion(y, said, k)
    drawn = bootstrap(lambda y, p, w: confusion(y, p, k, w=w), y, said, patient=rng.integers(0, 90, n), n_boot=20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak<2e7
    assert (cm==skm.confusion_matrix(y, said, labels=range(k))).all() and drawn.shape==(20,k,k) and (drawn==drawn.round()).all()
    np.testing.assert_allclose(confusion(y, said, k, w=w)[1,2], skm.confusion_matrix(y, said, labels=range(k), sample_weight=w[1,2]))
    assert (confusion([], [], 3)==0).all()

# statistics
@pytest.mark.parametrize('digits', [1, 2, None])
@pytest.mark.parametrize('seed', range(5))
def test_auc_and_ap_like_sklearn(seed, digits):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 200))
    y,s,w = rng.random(n)<.4, rng.random(n), rng.integers(0, 4, (7,n)).astype(float)
    y[:2] = True,False; w[:,:2] = 1
    if digits: s = s.round(digits)
    np.testing.assert_allclose(auc(y,s), skm.roc_auc_score(y,s), atol=1e-12)
    np.testing.assert_allclose(auc(y,s,w), [skm.roc_auc_score(y,s,sample_weight=o) for o in w], atol=1e-12)
    np.testing.assert_allclose(average_precision(y,s,w), [skm.average_precision_score(y,s,sample_weight=o) for o in w], atol=1e-12)

@pytest.mark.parametrize('k', [2,3,4])
def test_class_metrics_like_sklearn(k):
    y,p,who = simulate(30, 3, seed=k, k=k)
    p = p.round(2); p /= p.sum(1, keepdims=True)
    w = np.concatenate(list(patient_weights(who, 20)))
    got = class_metrics(y, p, w)
    for i,o in enumerate(w):
        if len(set(y[o>0]))<k: assert np.isnan(got['auc'][i]) and np.isnan(got['f1'][i]); continue
        pred = p.argmax(1)
        want = dict(accuracy=skm.accuracy_score(y, pred, sample_weight=o),
                    balanced_accuracy=skm.balanced_accuracy_score(y, pred, sample_weight=o),
                    auc=skm.roc_auc_score(y, p[:,1] if k==2 else p, multi_class='ovr', sample_weight=o),
                    average_precision=skm.average_precision_score(y if k==2 else np.eye(k)[y], p[:,1] if k==2 else p, sample_weight=o),
                    mcc=skm.matthews_corrcoef(y, pred, sample_weight=o), f1=skm.f1_score(y, pred, average='macro', sample_weight=o))
        for c in range(k):
            want[f'sensitivity_{c}'] = skm.recall_score(y==c, pred==c, sample_weight=o)
            want[f'specificity_{c}'] = skm.recall_score(y!=c, pred!=c, sample_weight=o)
        assert set(want)==set(got)
        for name in want: assert got[name][i]==pytest.approx(want[name], abs=1e-12), name

def test_weights_equal_copied_rows():
    y,p,who = simulate(12, 3)
    for w in np.concatenate(list(patient_weights(who, 5))):
        i = np.repeat(np.arange(len(y)), w.astype(int))
        a,b = class_metrics(y, p, w), class_metrics(y[i], p[i])
        for k in a: np.testing.assert_allclose(a[k], b[k], atol=1e-12)

@pytest.mark.parametrize('k', [2,4])
def test_metrics_of_a_matrix_like_sklearn(k):
    rng = np.random.default_rng(k)
    for _ in range(5):
        y,a,w = rng.integers(0, k, 60),rng.integers(0, k, 60),rng.integers(0, 3, 60)
        cm = confusion(y, a, k, w=w)
        assert matthews(cm)==pytest.approx(skm.matthews_corrcoef(y, a, sample_weight=w), abs=1e-12)
        np.testing.assert_allclose(f1_by_class(cm), skm.f1_score(y, a, average=None, sample_weight=w), atol=1e-12)
        for o in (None,'linear','quadratic'):
            assert cohen_kappa(cm, o or 'none')==pytest.approx(skm.cohen_kappa_score(y, a, weights=o, sample_weight=w), abs=1e-12)
        assert quadratic_kappa(cm)==cohen_kappa(cm, 'quadratic')
        onehot = np.eye(k)[y]; p = rng.random((60,k)).round(1)
        assert micro(auc, onehot, p, w)==pytest.approx(skm.roc_auc_score(onehot, p, average='micro', sample_weight=w))
        assert micro(average_precision, onehot, p)==pytest.approx(skm.average_precision_score(onehot, p, average='micro'))
        assert micro(f1, onehot, p>.5)==pytest.approx(skm.f1_score(onehot, p>.5, average='micro'))
    assert np.isnan(matthews(np.diag([4,0]))) and matthews(np.array([[0,4],[0,3]]))==0 and np.isnan(cohen_kappa(np.diag([4,0])))

def test_missing_scores_are_not_guessed():
    y,p,who = simulate(20, 2, k=2)
    bad = np.where(np.arange(40)[:,None]<3, np.nan, p)
    for f in (lambda: auc(y==1, bad[:,1]), lambda: average_precision(y==1, bad[:,1]), lambda: best_threshold(y==1, bad[:,1]),
              lambda: threshold_metrics(y==1, bad[:,1]), lambda: class_metrics(y, bad), lambda: class_estimates(y, bad, ['a','b'], patient=who),
              lambda: bootstrap(auc, y==1, bad[:,1], patient=who, n_boot=5)):
        with pytest.raises(DataError, match='3 of 40'): f()

@pytest.mark.parametrize('seed', range(4))
def test_a_threshold_is_the_best_of_all(seed):
    "Each cut between scores, tried one by one: the best has the sum, the F1, or the other share where the wanted one is reached"
    rng = np.random.default_rng(seed)
    y = rng.random(60)<.4
    s = (rng.normal(size=60)+y).round(1)
    def rates(t): return (s>t)[y].mean(), (s<=t)[~y].mean()
    at = np.unique(s)
    cuts = [at[0]-1, *(at[1:]+at[:-1])/2, at[-1]+1]
    se,sp = np.array([rates(t) for t in cuts]).T
    a,b = rates(best_threshold(y, s))
    assert a+b==pytest.approx((se+sp).max())
    assert skm.f1_score(y, s>best_threshold(y, s, 'f1'))==pytest.approx(max(skm.f1_score(y, s>t, zero_division=0) for t in cuts))
    for goal in (.6, .9, 1):
        a,b = rates(best_threshold(y, s, ('sensitivity',goal)))
        assert a>=goal and b==sp[se>=goal].max()
        a,b = rates(best_threshold(y, s, ('specificity',goal)))
        assert b>=goal and a==se[sp>=goal].max()
        assert best_threshold(y, s, ['specificity',goal])==best_threshold(y, s, ('specificity',goal)) # as JSON gives it

def test_of_cuts_that_are_as_good_it_is_the_middle_one():
    assert best_threshold([0,1,0,1,0,1], [1,2,3,4,5,6])==3.5

def test_counts_beyond_32_bits():
    "Three patients who stand for 60,000 each, with 40,000 images"
    n = 40_000
    rng = np.random.default_rng(0)
    y,s,who = rng.random(n)<.5, rng.random(n).round(3), rng.integers(0, 3, n)
    w = Draws(np.full((1,3), 60_000, np.uint16), who, {})
    np.testing.assert_allclose(auc(y, s, w), [auc(y, s)])
    np.testing.assert_allclose(average_precision(y, s, w), [average_precision(y, s)])
