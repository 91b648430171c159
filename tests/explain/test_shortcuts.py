"What a logistic regression reaches without a look at the retina, and whether the report says it beside the score"
import re
import numpy as np, pandas as pd, pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from fundus_fastai.core import read_json
from fundus_fastai.options import DataOptions, TrainOptions, UnseenOptions
from fundus_fastai.run.report import remake_report
from fundus_fastai.explain import shortcuts
from fundus_fastai.explain.shortcuts import (cheap_answer, cheap_looks, mean_of_aucs, measure_shortcuts, patients_of_both,
                                             shortcut_words, worth)
from fundus_fastai.run.train import evaluate_run, train_run
from fundus_fastai.score.estimate import Estimate
from fundus_fastai.vision.outputs import BothOutput, ClassOutput, LabelsOutput, NumberOutput
from fundus_fastai.vision.steps import load_frame, split_frame

FAST = TrainOptions('test_efficientnet', weights='none', size=32, epochs=1, freeze_epochs=0)
NET = dict(auc=Estimate(.98, .95, .99, 'patient bootstrap'))

def pictures(folder, n=80, frame=(5,5), sides=(100,100), light=(0,0)):
    "Noise; the second half, the ill, differ by the brightness of the frame, the number of pixels or the light"
    folder.mkdir(exist_ok=True)
    rng,rows = np.random.default_rng(0),[]
    for i in range(n):
        ill = i%2
        k = sides[ill]
        a = rng.integers(60, 180, (k,k,3)).astype(np.uint8)+np.uint8(light[ill])
        a[:6] = a[-6:] = a[:,:6] = a[:,-6:] = frame[ill]
        Image.fromarray(a).save(folder/f'{i}.png')
        rows.append(dict(path=str(folder/f'{i}.png'), patient=f'p{i//2%40}', label='ill' if ill else 'well', split='train' if i<n*.6 else 'test'))
    return pd.DataFrame(rows)

def aucs(df): return {o['what']: o['auc'] for o in measure_shortcuts(df, ClassOutput(['ill','well']))}

@pytest.mark.parametrize('how,what', [(dict(frame=(4,9)), 'border'), (dict(sides=(100,120)), 'image'), (dict(sides=(100,120)), 'file'),
                                      (dict(light=(0,40)), 'contrast')])
def test_a_planted_shortcut_is_found(tmp_path, how, what): assert aucs(pictures(tmp_path/'p', **how))[what]>.99

def test_where_there_is_none(tmp_path):
    found = aucs(pictures(tmp_path/'p'))
    assert found and max(found.values())<.8 and 'image' not in found

def test_the_interval_is_of_patients(tmp_path):
    df = pictures(tmp_path/'p', frame=(5,6))
    one,two = ({o['what']:o for o in measure_shortcuts(d, ClassOutput(['ill','well']))}['contrast']
               for d in (df, df.assign(patient=[f'q{i%8}' for i in range(len(df))])))
    assert one['auc']==two['auc'] and (one['low'],one['high'])!=(two['low'],two['high'])

def test_labels_are_asked_too(tmp_path):
    df = pictures(tmp_path/'p', frame=(4,9))
    df = df.assign(a=(df.label=='ill').astype(int), b=(np.arange(len(df))//2)%2)
    found = {o['what']:o['auc'] for o in measure_shortcuts(df, LabelsOutput(['a','b']))}
    assert .65<found['border']<.95 # one label of two
    assert measure_shortcuts(df.assign(label=50.), NumberOutput(['age'], 0., 1.))==[] # one number for all

def aged(df, seed=0): return df.assign(label=np.where(df.label=='ill', 70., 40.)+np.random.default_rng(seed).normal(0, 2, len(df)))

def years(df, output=None): return {o['what']:o for o in measure_shortcuts(df, output or NumberOutput(['age'], 50., 10.)) if 'mae' in o}

@pytest.mark.parametrize('how,what', [(dict(frame=(4,9)), 'border'), (dict(sides=(100,120)), 'image'), (dict(light=(0,40)), 'contrast')])
def test_a_planted_shortcut_to_a_number_is_found(tmp_path, how, what):
    found = years(aged(pictures(tmp_path/'p', **how)))[what]
    assert found['mae']<4 and found['low']<found['mae']<found['high']<found['guess'] and found['guess']>13

def test_of_a_number_where_there_is_none(tmp_path):
    for o in years(aged(pictures(tmp_path/'p'))).values(): assert o['mae']>.8*o['guess'] and o['high']>o['guess']

def test_where_class_and_number_are_asked_both_are_told(tmp_path):
    df = pictures(tmp_path/'p', frame=(4,9))
    df = df.assign(age=aged(df).label)
    found = measure_shortcuts(df, BothOutput(['ill','well'], 50., 10.))
    assert {('auc' in o, o['what']) for o in found}=={(a,b) for a in (True,False) for b in ('border','file','contrast')}
    said = shortcut_words(found, dict(auc=Estimate(.7, .6, .8, ''), mae=Estimate(12., 11., 13., '', 'years')))
    assert said['loud'] and said['text'].count('SHORTCUT')==1 and 'AUC of 1.000' in said['text'] and 'years' in said['text']

def test_foreign_data_are_asked_without_training_rows(tmp_path):
    df = pictures(tmp_path/'p', frame=(4,9)).assign(split='test')
    found = measure_shortcuts(df, ClassOutput(['ill','well']))
    assert {o['what']:o['auc'] for o in found}['border']>.99 and all(o['crossed'] for o in found)
    assert years(aged(df))['border']['mae']<4
    assert measure_shortcuts(df[df.patient.isin(df.patient.unique()[:8])], ClassOutput(['ill','well']))==[] # too few to tell
    plain = pictures(tmp_path/'q').assign(split='test')
    assert max(o['auc'] for o in measure_shortcuts(plain, ClassOutput(['ill','well'])))<.75

@pytest.mark.parametrize('number', [False,True])
def test_no_patient_is_read_by_whoever_met_it(number):
    "Twins of noise: with one of them in the fit the other would be known"
    rng = np.random.default_rng(0)
    x,who = rng.normal(size=(60,200)).repeat(2, 0),np.arange(60).repeat(2)
    y = (rng.normal(size=60) if number else rng.permutation([0,1]*30)).repeat(2)[:,None]
    def told(patient): return np.corrcoef(cheap_answer(x, y, np.ones(120, bool), patient=patient, number=number)[:,0], y[:,0])[0,1]
    assert abs(told(who))<.35 and told(np.arange(120))>.6

@pytest.mark.parametrize('mae,guess,loud', [(5.5,9.,True), (6.,9.,True), (6.1,9.,False), (5.5,6.,False)])
def test_loud_for_a_number(mae, guess, loud):
    "Within the net's interval, and better than one guess for all"
    found = [dict(what='border', mae=mae, low=mae-1, high=mae+1, guess=guess), dict(what='file', mae=9., low=8., high=10., guess=guess)]
    said = shortcut_words(found, dict(mae=Estimate(5., 4., 6., '', 'years')))
    assert said['loud']==loud and re.search(rf'mean error of {mae:.3f} years .*border.*9.000 years .*file.*one guess for all \(the median of training\) {guess:.3f}', said['text'])
    assert 'the net has 5.000 years (4.000 to 6.000)' in said['text']

@pytest.mark.parametrize('key', ['mae','auc'])
def test_what_has_no_interval_is_read_back_from_json(key):
    "Of few patients there is none: a run's training had ended in an error that nobody foresaw, at its report"
    found = [dict(what='border', low=np.nan, high=np.nan, guess=9., **{key:.7}), dict(what='file', low=np.nan, high=np.nan, guess=9., **{key:np.nan})]
    stored = [{k:None if v!=v else v for k,v in o.items()} for o in found]
    net = {key:Estimate(.6, np.nan, np.nan, '')}
    assert shortcut_words(stored, net)==shortcut_words(found, net) and '0.700 from the border alone' in shortcut_words(stored, net)['text']
    assert shortcut_words(stored[1:], net) is None

def test_one_side_only_is_no_question(tmp_path):
    df = pictures(tmp_path/'p')
    assert measure_shortcuts(df.assign(split=np.where(df.label=='ill', 'train', 'test')), ClassOutput(['ill','well']))==[]

def test_gray_and_reduced(tmp_path):
    Image.new('L', (3000,2000), 90).save(tmp_path/'a.jpg')
    assert np.allclose(np.exp(cheap_looks(tmp_path/'a.jpg')['image']), [2000,3000], rtol=.01)

@pytest.mark.parametrize('best,loud', [(.94,False), (.951,True), (.99,True)])
def test_loud_where_it_comes_within_the_interval(best, loud):
    found = [dict(what='file', auc=.5, low=.4, high=.6), dict(what='border', auc=best, low=.9, high=1.)]
    said = shortcut_words(found, NET)
    assert said['loud']==loud and said['text'].startswith('SHORTCUT')==loud
    assert re.search(rf'{best:.3f} .*border.*0.500 .*file', said['text']) and '0.980 (0.950 to 0.990)' in said['text']

@pytest.mark.parametrize('low,loud', [(.5,False), (.51,True)])
def test_a_look_that_may_be_chance_is_not_loud(low, loud):
    found = [dict(what='border', auc=.99, low=low, high=1.)]
    assert shortcut_words(found, NET)['loud']==loud

def test_a_label_that_all_have_stops_no_other(tmp_path):
    df = pictures(tmp_path/'p', frame=(4,9))
    df = df.assign(a=(df.label=='ill').astype(int), b=1)
    assert {o['what']:o['auc'] for o in measure_shortcuts(df, LabelsOutput(['a','b']))}['border']>.99

def test_of_large_sets_a_sample_is_looked_at(tmp_path, monkeypatch):
    seen,look = [],cheap_looks
    monkeypatch.setattr(shortcuts, 'cheap_looks', lambda o: seen.append(o) or look(o))
    df = pictures(tmp_path/'p', frame=(4,9))
    found = measure_shortcuts(df, ClassOutput(['ill','well']), most=20)
    assert len(set(seen))==len(seen)==40 and (df.set_index('path').split[seen]=='test').sum()==20 and found[0]['auc']>.9

def test_mean_auc_and_how_many_it_is_of():
    "As scikit-learn has it, of the columns with two sides; people are counted once, in the column that has the fewest of a side"
    rng = np.random.default_rng(0)
    y,p = np.stack([np.arange(30)==7, np.arange(30)%2, np.ones(30), np.zeros(30)], 1).astype(int),rng.random((30,4))
    assert mean_of_aucs(y, p)==pytest.approx(roc_auc_score(y[:,:2], p[:,:2], average='macro')) and np.isnan(mean_of_aucs(y[:,2:], p[:,2:]))
    who = np.arange(30)//2
    assert patients_of_both(y, who)==[1,15] and patients_of_both(y[:,1:], who)==[15,15]
    assert patients_of_both(1-y[:,:1], who)==[15,1]

def test_a_net_without_an_interval(): assert shortcut_words([dict(what='file', auc=.99, low=.9, high=1.)], dict(auc=Estimate(.98, np.nan, np.nan, '')))['loud']

def test_what_few_patients_leave_without_an_interval_is_read_again():
    "JSON has no NaN: the report of an age of four patients broke off once it was written"
    net = dict(mae=Estimate(5., np.nan, np.nan, 'no interval: 4 patients', 'years'))
    found = [dict(what='border', mae=4., low=None, high=None, guess=6.)]
    assert shortcut_words(found, net)==shortcut_words([found[0]|dict(low=np.nan, high=np.nan)], net)

def test_report_and_card_say_it(tmp_path, capsys):
    df = pictures(tmp_path/'p', frame=(4,9), n=120)
    df.drop(columns='split').to_csv(tmp_path/'t.csv', index=False)
    train_run('disease', DataOptions(str(tmp_path/'t.csv'), label='label', patient='patient'), FAST, out=tmp_path/'run', maps=0)
    said = capsys.readouterr().err
    page,card = ((tmp_path/'run'/o).read_text() for o in ('report.html','README.md'))
    for text in (said, page, card): assert 'SHORTCUT: the border alone' in text
    assert '<p class="loud"' in page and '**SHORTCUT' in card
    for o,end in ((page.partition('<p class="loud"')[2], '</b> What'), (card.partition('> **SHORTCUT')[2], '** What')):
        assert f'within its interval.{end}' in o, 'its first sentence is bold'
    assert {o['what'] for o in read_json(tmp_path/'run/config.json')['shortcuts']}>={'border','contrast'}
    (tmp_path/'run/report.html').unlink()
    remake_report(tmp_path/'run')
    assert (tmp_path/'run/report.html').read_text()==page
    new = pictures(tmp_path/'q', frame=(4,9)).assign(patient=lambda d: 'q'+d.patient).iloc[::-1]
    for f in new.path: Image.fromarray(255-np.asarray(Image.open(f))).save(f) # other pictures
    new.drop(columns='split').to_csv(tmp_path/'new.csv', index=False)
    evaluate_run(tmp_path/'run', UnseenOptions(str(tmp_path/'new.csv'), label='label', patient='patient'),
                 out=tmp_path/'e', maps=0)
    assert 'cross-fitted' in capsys.readouterr().err
    page = (tmp_path/'e/report.html').read_text()
    assert 'logistic regression on the same split' not in page # that was measured elsewhere
    assert 'logistic regression on the images scored here, cross-fitted by patients' in page and 'SHORTCUT: the border' in page
    page = (tmp_path/'e/README.md').read_text()
    assert '**SHORTCUT' in page

def test_a_report_on_numbers_says_it(tmp_path, capsys):
    df = aged(pictures(tmp_path/'p', frame=(4,9), n=120)).rename(columns=dict(label='age'))
    df.drop(columns='split').to_csv(tmp_path/'t.csv', index=False)
    train_run('age', DataOptions(str(tmp_path/'t.csv'), patient='patient'), FAST.but(fit='tune'), out=tmp_path/'run', maps=0)
    said = capsys.readouterr().err
    for text in (said, *((tmp_path/'run'/o).read_text() for o in ('report.html','README.md'))):
        assert 'SHORTCUT: the border alone' in text and 'ridge regression on the same split has a mean error of' in text

def test_real_borders_are_loud(test_data):
    "The set's own shortcut: the frames of the cameras"
    d = test_data/'fundus_dme'
    df = split_frame(load_frame('disease', d/'labels.csv', images=d/'images', label='DME', patient='patient_id'))
    found = {o['what']:o for o in measure_shortcuts(df, ClassOutput(sorted(df.label.astype(str).unique())))}
    assert found['border']['auc']>.93 and shortcut_words(list(found.values()), dict(auc=Estimate(.984, .95, .998, '')))['loud']

def test_looks_that_know_nothing_are_seldom_loud_in_small_studies():
    rng,said = np.random.default_rng(0),[]
    for k in range(15):
        y,pats = np.tile([True,False], 40),np.arange(80)
        rows,new = pd.DataFrame(dict(patient=pats.astype(str))),pats>=60
        found = [dict(what=o, **worth(rng.normal(size=(80,3)), y[:,None]*1, rows, new=new, key='auc', seed=k))
                 for o in ('border','file','image','contrast')]
        said.append(shortcut_words(found, dict(auc=Estimate(.85, .62, .97, '')))['loud'])
    assert np.mean(said)<.2 # it was .43

def test_the_interval_of_a_look_counts_the_few(tmp_path):
    "Six ill among ninety: the look is measured as an AUC of six and eighty-four is, not as one of ninety people"
    from fundus_fastai.score.estimate import event_estimate
    from fundus_fastai.score.metrics import auc
    rng,n = np.random.default_rng(1),180
    rows = pd.DataFrame(dict(patient=np.arange(n).astype(str)))
    y = (np.arange(n)%15==0).astype(float)[:,None]
    x,new = rng.normal(size=(n,2))+y,np.arange(n)>=90
    found = worth(x, y, rows, new=new, key='auc')
    p = cheap_answer(x, y, new, patient=rows.patient.to_numpy(), number=False)
    e = event_estimate(auc, y[new,0], p[:,0], patient=rows.patient[new], n_boot=500)
    assert (found['low'],found['high'])==pytest.approx(e[1:3], abs=1e-12)
