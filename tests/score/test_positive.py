"The positive class is the ill one, everywhere: against scikit-learn, with names in either order of the alphabet"
import numpy as np, pandas as pd, pytest
from pathlib import Path
from sklearn import metrics as skm
from fundus_fastai.core import DataError, EyeError, read_json
from fundus_fastai.score.calibration import add_calibration, binary_questions
from fundus_fastai.score.compare import read_panel
from fundus_fastai.score.kinds import get_kind, positive_of
from fundus_fastai.score.patients import rescore, score_as
from fundus_fastai.score.plots import plot_pr
from fundus_fastai.score.scores import score
from fundus_fastai.words import says_normal
from made import class_table

OLD = Path(__file__).parent.parent/'run'/'old_run'/'run'
fast = dict(n_boot=20)

def table(names, ill=.2, n=300, seed=0):
    "Predictions of two classes, of which the second is the rare, ill one"
    rng = np.random.default_rng(seed)
    y = rng.random(n)<ill
    s = 1/(1+np.exp(-(3*y-2+rng.normal(size=n))))
    return pd.DataFrame({'path':[f'{i}.png' for i in range(n)], 'patient':[str(i//2) for i in range(n)], 'eye':None,
                         'target':np.where(y, names[1], names[0]), f'p_{names[0]}':1-s, f'p_{names[1]}':s})

@pytest.mark.parametrize('well,ill', [('normal','abnormal'), ('no DME','DME'), ('NORMAL','CNV'), ('Healthy','glaucoma'),
    ('0','1'), ('no','yes'), ('negative','case'), ('non-referable','referable'), ('without_edema','edema'), ('NoDR','DR'),
    ('A','B')])
def test_everything_speaks_of_the_ill_class(well, ill):
    df,valid = table((well,ill)),table((well,ill), seed=1)
    y,p = (df.target==ill).to_numpy(),df[f'p_{ill}'].to_numpy()
    s = add_calibration(score(df, **fast), valid, prevalences=(.01,))
    assert s.positive==ill and f'positive: {ill}' in str(s) and s.classes==[well,ill]
    assert s.metrics['average_precision'].value==pytest.approx(skm.average_precision_score(y, p))
    assert s.metrics['auc'].value==pytest.approx(skm.roc_auc_score(y, p))
    assert s.metrics[f'sensitivity_{ill}'].value==pytest.approx(skm.recall_score(y, p>.5))
    assert list(binary_questions(df))==[ill] and {o['question'] for o in s.points}=={ill}
    assert s.points[0]['prevalence']==pytest.approx(y.mean())
    t = s.points[0]['threshold']
    assert s.points[0]['ppv'].value==pytest.approx(skm.precision_score(y, p>t))
    assert list(s.calibration['questions'])==[ill] and s.to_json()['operating']['positive']==ill
    assert s.confusion.images.to_numpy().reshape(2,2).tolist()==skm.confusion_matrix(y, p>.5).tolist()
    assert f'prevalence {y.mean():.2f}' in plot_pr(s).lines[0].get_label()

def test_the_class_that_is_named():
    df = table(('CNV','DME'))
    y,p = (df.target=='CNV').to_numpy(),df.p_CNV.to_numpy()
    op = dict(positive='CNV')
    s = score_as(None, df, op, **fast)
    assert s.positive=='CNV' and s.metrics['average_precision'].value==pytest.approx(skm.average_precision_score(y, p))
    assert s.by_patient['mean of all images']['metrics']['average_precision'].value>.5 if s.by_patient else True
    with pytest.raises(EyeError, match='CNV'): score(df, None, dict(positive='CNW'), **fast)
    swapped = score(df[[*df.columns[:4],'p_DME','p_CNV']], None, op, **fast) # the order of columns says nothing
    assert swapped.metrics==s.metrics

def test_choosing_is_kept():
    df = table(('no DME','DME'))
    for kind in ('category','both'):
        d = df if kind=='category' else df.assign(target_age=50., pred_age=51.)
        assert get_kind(kind).choose(d)['positive']=='DME'
        assert score(d, kind, get_kind(kind).choose(d), **fast).positive=='DME'
    four = pd.DataFrame(dict(path=list('abcd'), patient=list('abcd'), target=list('wxyz'))).join(
        pd.DataFrame(np.eye(4)*.4+.15, columns=[f'p_{c}' for c in 'wxyz']))
    assert score(four, **fast).positive=='' and get_kind('category').choose(four)=={}

def test_runs_made_before_mean_what_they_meant():
    "In the run kept here the last of the alphabet, NORMAL, was positive: its numbers stay, and it says so"
    m,s = read_json(OLD/'metrics.json'),rescore(OLD)
    assert s.positive=='NORMAL' and s.classes==m['classes'] and 'Positive is NORMAL' in s.note and 'positive: NORMAL' in str(s)
    for k in ('average_precision','auc'): assert s.metrics[k].value==pytest.approx(m['metrics'][k]['value'])

def test_rescoring_twice_says_it_once(tmp_path):
    s = rescore(OLD)
    s.save(tmp_path)
    again = rescore(tmp_path)
    assert again.note==s.note and again.positive=='NORMAL' and again.note.count('Positive is')==1

def test_a_panel_speaks_of_the_ill_class():
    p = read_panel({str(i): table(('no DME','DME'), seed=0).assign(**{}) for i in range(2)})
    assert p.classes==['no DME','DME']

@pytest.mark.parametrize('name', ['no_DME','NORMAL','Healthy','0','negative','No DR','NoDR','0_normal','no retinopathy','control'])
def test_words_for_nothing(name): assert says_normal(name)

@pytest.mark.parametrize('name', ['DME','abnormal','1','notable','nodule','north','female','case','glaucoma','unhealthy','10'])
def test_words_for_something(name): assert not says_normal(name)

def test_where_names_tell_nothing():
    assert positive_of(['female','male'])=='male' and positive_of(['no','none'])=='none' and positive_of(['CNV','DME'])=='DME'

def test_a_binary_number_stands_once():
    "The sensitivity of one class is the specificity of the other: shown once, kept twice in the file"
    s = score(table(('no DME','DME')), **fast)
    assert s.metrics['sensitivity_DME'].value==s.metrics['specificity_no DME'].value
    for page in (str(s), s._repr_html_()): assert 'no DME' not in page.split('interval from')[1]
    assert 'sensitivity_DME' in str(s) and 'specificity_no DME' in s.to_json()['metrics']
    assert list(score(class_table(20), n_boot=5).told)==list(score(class_table(20), n_boot=5).metrics)
