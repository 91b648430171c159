"Scores as objects: any order, files, faces"
import pytest
from fundus_fastai.core import DataError, read_json
from fundus_fastai.score.kinds import read_predictions
from fundus_fastai.score.scores import metric_label, pick, score
from made import CLASSES, class_table, labels_table

pytestmark = [pytest.mark.filterwarnings('error'), # no warning may be spilled, but for a pipe that another test's process left open
              pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')]

@pytest.fixture
def preds(): return class_table()

# tables of predictions
def test_right_in_any_order(preds):
    a,b = score(preds), score(preds[preds.columns[::-1]].sample(frac=1, random_state=0))
    for k in a.metrics: assert a.metrics[k].value==pytest.approx(b.metrics[k].value, abs=1e-12)
    assert b.classes==CLASSES

def test_files_give_the_same_numbers(preds, tmp_path):
    s = score(preds.astype({f'p_{c}':'float32' for c in CLASSES}), task='oct', source='local', arch='resnet50')
    s.save(tmp_path/'run')
    m = read_json(tmp_path/'run'/'metrics.json')
    assert list(m)[:7]==['task','source','arch','split','n_images','n_patients','metrics']
    assert (m['n_images'],m['n_patients'])==(120,40) and set(m['metrics']['auc'])=={'value','low','high','method'}
    back = score(read_predictions(tmp_path/'run'/'predictions.csv'), task='oct', source='local', arch='resnet50').to_json()
    for k,v in m['metrics'].items():
        for e in ('value','low','high'): assert back['metrics'][k][e]==pytest.approx(v[e], abs=1e-6)

def test_text_faces(preds):
    s = score(preds, source='phantom')
    assert 'PHANTOM' in str(s) and 'PHANTOM' in s._repr_html_() and 'PHANTOM' not in str(score(preds))
    one = score(preds[:3])
    assert one.to_json()['metrics']['auc']==dict(value=None, low=None, high=None, method='undefined: one class only')
    assert 'undefined' in str(one)
    w = pick(s, n=5)
    assert (w.target!=w.predicted).all() and w.p_target.is_monotonic_increasing

def test_a_class_that_is_a_number_is_called_a_class():
    said = {'sensitivity_1':'sensitivity of class 1', 'auc_0':'AUC of class 0', 'average_precision_12':'average precision of class 12',
            'f1_stage_2':'F1 stage_2', 'r2':'R²', 'accuracy':'accuracy', 'log_loss':'log loss', 'sensitivity_my_class':'sensitivity my_class'}
    assert {k:metric_label(k) for k in said}==said

def test_a_lot_does_not_hang_on_the_order_of_the_rows(preds):
    a,b = (pick(o, 'random', 8, per='group', seed=1) for o in (preds, preds[::-1]))
    assert a.path.tolist()==b.path.tolist()

def test_by_lot_groups_and_patients_take_turns(preds):
    d = pick(preds, 'random', 12, per='target')
    assert [*d.target]==3*CLASSES and d.patient.is_unique
    assert pick(preds, 'random', 0, per='target').groupby('target').size().tolist()==4*[30]
    same,other = (pick(preds, 'random', 12, per='target', seed=k).path.tolist() for k in (0,1))
    assert d.path.tolist()==same!=other

@pytest.mark.parametrize('per', ['group','target','patient'])
def test_the_worst_take_turns_too(preds, per):
    s,plain = score(preds),pick(preds, n=0)
    d = pick(s, n=0, per=per)
    assert d[per].head(d[per].nunique()).is_unique and sorted(d.path)==sorted(plain.path) and 'said' in d
    assert d.groupby(per).p_target.is_monotonic_increasing.all()
    assert pick(preds, per=per).equals(d[:9])

def test_a_column_that_is_not_there_takes_no_turns(preds):
    for by in ('wrong','confident'):
        with pytest.raises(DataError, match="no column clinic"): pick(preds, by, per='clinic')
    d = pick(preds.assign(clinic=['Köln 1','b']*60), n=4, per='clinic')
    assert [*d.clinic]==2*['Köln 1','b']

def test_missed_labels_take_turns():
    s = score(labels_table())
    d = pick(s, n=len(s.classes), per='group')
    assert {*d.group}=={*d.label} and d.label.is_unique
