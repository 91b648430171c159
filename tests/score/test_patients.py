"Both eyes of a patient"
import numpy as np, pandas as pd
from sklearn import metrics as skm
from scipy.special import expit, logit
from fundus_fastai.score.patients import combine_eyes, fit_blend, score_as
from made import numbers_table

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

def test_a_blend_needs_patients():
    assert fit_blend(numbers_table(40)) is None and fit_blend(numbers_table(200)) is not None


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
