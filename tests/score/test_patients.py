"Both eyes of a patient"
import numpy as np, pandas as pd, pytest
from sklearn import metrics as skm
from scipy.special import expit, logit
from fundus_fastai.score.patients import combine_eyes, fit_blend, rescore, score_as
from made import labels_table, numbers_table

fast = dict(n_boot=20)

def test_both_eyes_are_averaged_in_logits():
    df = pd.DataFrame(dict(path=['a','b'], patient=['1','1'], eye=['L','R'], target=['m','m'], p_f=[.01,.55], p_m=[.99,.45]))
    assert np.isclose(combine_eyes(df).p_m[0], expit(logit([.99,.45]).mean()))
    num = pd.DataFrame(dict(path=['a','b'], patient=['1','1'], eye=['L','R'], target=[50.,50.], pred=[40.,70.]))
    assert combine_eyes(num).pred[0]==55

def test_the_worse_eye_counts_whatever_the_order_of_columns():
    df = pd.DataFrame(dict(path=list('ab'), patient=['1','1'], eye=['L','R'], target=['0','3'], p_0=[.9,.1], p_1=[.05,.1], p_2=[.03,.1], p_3=[.02,.7]))
    assert combine_eyes(df, 'grades').target[0]=='3'==combine_eyes(df[df.columns[::-1]], 'grades').target[0]

def test_a_patient_with_one_ill_eye_is_ill():
    df = pd.DataFrame(dict(path=list('abcd'), patient=list('1122'), eye=['L','R']*2, target=['normal','abnormal','normal','normal'],
                           p_normal=[.9,.2,.8,.7], p_abnormal=[.1,.8,.2,.3]))
    t = combine_eyes(df)
    assert dict(zip(t.patient, t.target))=={'1':'abnormal', '2':'normal'}
    two = df.replace(dict(target=dict(normal='CNV', abnormal='DME'))).rename(columns=dict(p_normal='p_CNV', p_abnormal='p_DME'))
    assert combine_eyes(two) is None # two diseases: no truth of both

def test_both_eyes_of_sex_and_age():
    "Sex and age of a patient are each what they would be alone"
    ages,rng = numbers_table(),np.random.default_rng(0)
    sex = rng.integers(0, 2, 100).repeat(2)
    z = sex-.5+rng.normal(size=200)
    both = ages[['path','patient','eye']].assign(target=np.where(sex, 'male', 'female'), p_female=1-expit(z), p_male=expit(z),
                                                 target_age=ages.target, pred_age=ages.pred)
    t = combine_eyes(both, 'both')
    assert len(t)==100 and np.allclose(t.pred_age, combine_eyes(ages).pred)
    assert np.allclose(t.p_male, combine_eyes(both.drop(columns=['target_age','pred_age'])).p_male)
    m = score_as('both', both, **fast).by_patient['mean of all images']['metrics']
    assert np.isclose(m['mae'].value, (t.target_age-t.pred_age).abs().mean())
    assert np.isclose(m['auc'].value, skm.roc_auc_score(t.target=='male', t.p_male))

@pytest.mark.parametrize('way', ('max','min'))
def test_a_blend_hears_the_highest_and_the_lowest(way):
    "Of three images the one that counts is learned; the mean of them is far off"
    def table(seed):
        pred = np.random.default_rng(seed).normal(50, 10, (200,3))
        who = np.repeat(np.arange(200), 3)
        return pd.DataFrame(dict(path=[f'{i}' for i in range(600)], patient=who.astype(str), target=getattr(pred, way)(1)[who], pred=pred.ravel()))
    test,blend = table(1),fit_blend(table(0))
    off = {k: (t.pred-t.target).abs().mean() for k,t in dict(blend=combine_eyes(test, blend=blend), mean=combine_eyes(test)).items()}
    assert off['blend']<1 and off['mean']>5

def test_a_blend_needs_patients():
    assert fit_blend(numbers_table(40)) is None and fit_blend(numbers_table(200)) is not None
    d = numbers_table(300)
    fifty = d[d.patient.astype(int)<50]
    alone = d[(d.patient.astype(int)>=50)&(d.eye=='L')] # one image each tells nothing
    assert fit_blend(fifty) is not None and fit_blend(pd.concat([fifty[fifty.patient!='7'], alone])) is None

def test_a_run_is_scored_again_with_its_blend(tmp_path):
    "And where validation has too few patients, nothing is called a blend"
    test,valid = numbers_table(seed=1),numbers_table(seed=2)
    s = score_as('number', test, valid=valid, task='age', source='local', arch='x', split='test', **fast)
    s.save(tmp_path/'run')
    valid.to_csv(tmp_path/'run'/'validation.csv', index=False)
    again = rescore(tmp_path/'run')
    assert [*again.by_patient]==[*s.by_patient]==['mean of all images','blend learned on validation']
    for k,o in s.by_patient.items():
        for m,e in o['metrics'].items(): assert again.by_patient[k]['metrics'][m][:3]==pytest.approx(e[:3], nan_ok=True)
    assert [*score_as('number', test, valid=valid[:40], **fast).by_patient]==['mean of all images']
    (tmp_path/'run'/'validation.csv').unlink()
    assert [*rescore(tmp_path/'run').by_patient]==['mean of all images']

def test_what_is_not_blended():
    "A label or class that no patient, or every one, has; and two questions at once"
    d = labels_table()
    assert fit_blend(d) is not None and fit_blend(d.assign(target_haze=0)) is None and fit_blend(d.assign(target_haze=1)) is None
    n = numbers_table()
    two = n.assign(target=np.where(n.patient.astype(int)%2, 'm', 'f'), p_f=.4, p_m=.6).drop(columns='pred')
    assert fit_blend(two) is not None and fit_blend(two.assign(target='f')) is None
    assert fit_blend(two.assign(target_age=n.target, pred_age=n.pred)) is None


def test_a_blend_knows_grades_by_name():
    "As text 10 comes before 2: of eleven grades the blend had given the answers of one to another"
    names,rng = [str(i) for i in range(11)],np.random.default_rng(0)
    def eyes(people):
        who = np.repeat(np.arange(people), 2)
        y = (np.arange(people)%11)[who]
        z = 4*np.eye(11)[y]+rng.normal(size=(len(who),11))
        p = np.exp(z)/np.exp(z).sum(1, keepdims=True)
        t = pd.DataFrame(dict(path=[f'{i}.png' for i in range(len(who))], patient=[f'p{o}' for o in who], target=y.astype(str)))
        return t.assign(**{f'p_{c}':p[:,i] for i,c in enumerate(names)})
    s = score_as('grades', eyes(110), valid=eyes(330), n_boot=20)
    assert s.ways['blend learned on validation']['accuracy'].value>.95
