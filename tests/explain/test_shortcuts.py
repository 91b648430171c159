"What a logistic regression reaches without a look at the retina, and whether the report says it beside the score"
import re
import numpy as np, pandas as pd, pytest
from PIL import Image
from fundus_fastai.core import read_json
from fundus_fastai.options import DataOptions, TrainOptions, UnseenOptions
from fundus_fastai.run.report import remake_report
from fundus_fastai.explain.shortcuts import cheap_looks, measure_shortcuts, shortcut_words
from fundus_fastai.run.train import evaluate_run, train_run
from fundus_fastai.score.estimate import Estimate
from fundus_fastai.vision.outputs import ClassOutput, LabelsOutput, NumberOutput
from fundus_fastai.vision.steps import load_frame, split_frame

FAST = TrainOptions('test_efficientnet', weights='none', size=32, epochs=1, freeze_epochs=0)
NET = Estimate(.98, .95, .99, 'patient bootstrap')

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

def test_labels_are_asked_too_and_numbers_not(tmp_path):
    df = pictures(tmp_path/'p', frame=(4,9))
    df = df.assign(a=(df.label=='ill').astype(int), b=(np.arange(len(df))//2)%2)
    found = {o['what']:o['auc'] for o in measure_shortcuts(df, LabelsOutput(['a','b']))}
    assert .65<found['border']<.95 # one label of two
    assert measure_shortcuts(df.assign(label=50.), NumberOutput(['age'], 0., 1.))==[]

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

def test_a_net_without_an_interval(): assert shortcut_words([dict(what='file', auc=.99, low=.9, high=1.)], Estimate(.98, np.nan, np.nan, ''))['loud']

def test_report_and_card_say_it(tmp_path, capsys):
    df = pictures(tmp_path/'p', frame=(4,9), n=120)
    df.drop(columns='split').to_csv(tmp_path/'t.csv', index=False)
    train_run('disease', DataOptions(str(tmp_path/'t.csv'), label='label', patient='patient'), FAST, out=tmp_path/'run', maps=0)
    said = capsys.readouterr().err
    page,card = ((tmp_path/'run'/o).read_text() for o in ('report.html','README.md'))
    for text in (said, page, card): assert 'SHORTCUT: the border alone' in text
    assert '<p class="loud"' in page and '**SHORTCUT' in card
    assert {o['what'] for o in read_json(tmp_path/'run/config.json')['shortcuts']}>={'border','contrast'}
    (tmp_path/'run/report.html').unlink()
    remake_report(tmp_path/'run')
    assert (tmp_path/'run/report.html').read_text()==page
    evaluate_run(tmp_path/'run', UnseenOptions(str(tmp_path/'t.csv'), label='label', patient='patient'),
                 out=tmp_path/'e', maps=0)
    assert 'logistic regression on the same split' not in (tmp_path/'e/report.html').read_text() # it was not measured there

def test_real_borders_are_loud(test_data):
    "The set's own shortcut: the frames of the cameras"
    d = test_data/'fundus_dme'
    df = split_frame(load_frame('disease', d/'labels.csv', images=d/'images', label='DME', patient='patient_id'))
    found = {o['what']:o for o in measure_shortcuts(df, ClassOutput(sorted(df.label.astype(str).unique())))}
    assert found['border']['auc']>.93 and shortcut_words(list(found.values()), Estimate(.984, .95, .998, ''))['loud']
